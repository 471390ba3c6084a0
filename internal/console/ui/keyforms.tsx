import { useLayoutEffect, useRef, useState } from 'preact/hooks'
import type { ComponentChildren } from 'preact'
import { Failure, request, type Key, type MadeKey } from './api'
import { useLocal } from './i18n'
import { Icon } from './icons'
import { Copy } from './states'
import { iso, unwall, wall } from './time'

export const limitNames = ['rpm', 'tpm', 'input_tpm', 'output_tpm', 'concurrent'] as const

const path = (k: Key) => '/api/v1/keys/' + encodeURIComponent(k.name)

// A Dialog is left with Escape or its button, not with a click beside it: what
// it shows may be there only once.
function Dialog({ title, onClose, children }: { title: string; onClose: () => void; children: ComponentChildren }) {
  const { t } = useLocal()
  const box = useRef<HTMLDialogElement>(null)
  useLayoutEffect(() => box.current?.showModal(), []) // before the next key is pressed
  return (
    <dialog ref={box} class="card form" aria-label={title} onClose={onClose}>
      <header><h2>{title}</h2><button class="icon" aria-label={t('close')} onClick={onClose}><Icon name="close" /></button></header>
      {children}
    </dialog>
  )
}

// useAsk makes one request at a time and keeps what was wrong with the last.
function useAsk<V>(done: (v: V) => void) {
  const { t } = useLocal()
  const [error, setError] = useState('')
  const [busy, setBusy] = useState(false)
  const ask = (method: string, to: string, body?: unknown) => {
    setBusy(true)
    setError('')
    request<V>(method, to, body).then(done, (e: Failure) => { setBusy(false); setError(e.status === 0 ? t('offline') : e.message) })
  }
  return { ask, busy, error }
}

const split = (s: FormDataEntryValue | null) => String(s ?? '').split(',').map(x => x.trim()).filter(Boolean)

// Settings makes a key, or changes the one it is of.
export function Settings({ of, onMade, onDone, onClose }: { of?: Key; onMade: (k: MadeKey) => void; onDone: () => void; onClose: () => void }) {
  const { t, zone } = useLocal()
  const { ask, busy, error } = useAsk<any>(v => of ? onDone() : onMade(v))
  const [wrong, setWrong] = useState('')
  const submit = (e: SubmitEvent) => {
    e.preventDefault()
    const d = new FormData(e.currentTarget as HTMLFormElement), get = (n: string) => String(d.get(n) ?? '').trim()
    const notes: Record<string, string | null> = Object.fromEntries(Object.keys(of?.metadata ?? {}).map(n => [n, null]))
    for (const line of get('metadata').split('\n').filter(l => l.trim())) {
      const i = line.indexOf('=')
      if (i < 1) { setWrong(t('key_notes_wrong')); return }
      notes[line.slice(0, i).trim()] = line.slice(i + 1).trim()
    }
    setWrong('')
    const body = {
      team: get('team'), models: split(d.get('models')), budget: split(d.get('budget')), metadata: notes,
      limits: Object.fromEntries(limitNames.map(n => [n, get(n) ? Number(get(n)) : null])),
      expires_at: get('expires') ? before && get('expires') === before ? of!.expires_at : iso(unwall(get('expires'), zone)) : null,
    }
    of ? ask('PATCH', path(of), body) : ask('POST', '/api/v1/keys', { name: get('name'), ...body })
  }
  const before = of?.expires_at ? wall(Date.parse(of.expires_at) / 1000, zone) : ''
  const bad = wrong || error
  return (
    <Dialog title={of ? t('key_edit') + ': ' + of.name : t('key_new')} onClose={onClose}>
      <form onSubmit={submit}>
        {!of && <label>{t('key_name')}<input name="name" required maxLength={200} autoFocus autoComplete="off" spellcheck={false} /></label>}
        <label>{t('team')}<input name="team" maxLength={200} autoFocus={!!of} defaultValue={of?.team} autoComplete="off" spellcheck={false} /></label>
        <label>{t('models')}<input name="models" defaultValue={of?.models.join(', ')} placeholder={t('key_all_models')} aria-describedby="key-models" autoComplete="off" spellcheck={false} /><small id="key-models">{t('key_models_hint')}</small></label>
        <label>{t('key_expires')}<input name="expires" type="datetime-local" defaultValue={before} aria-describedby="key-expires" /><small id="key-expires">{t('key_expires_hint', { zone })}</small></label>
        <fieldset>
          <legend>{t('key_limits')}</legend>
          {limitNames.map(n => <label key={n}>{t(('limit_of_' + n) as 'limit_of_rpm')}<input name={n} type="number" min={1} step={1} max={1e15} defaultValue={of?.limits[n] ?? ''} placeholder={t('key_no_limit')} /></label>)}
        </fieldset>
        <label>{t('key_budget')}<input name="budget" defaultValue={of?.budget.join(', ')} placeholder={t('key_no_limit')} aria-describedby="key-budget" autoComplete="off" spellcheck={false} /><small id="key-budget">{t('key_budget_hint')} <code>$200/month, $20/day</code></small></label>
        <label>{t('key_notes')}<textarea name="metadata" rows={2} spellcheck={false} aria-describedby="key-notes" defaultValue={Object.entries(of?.metadata ?? {}).map(([n, v]) => n + '=' + v).join('\n')} /><small id="key-notes">{t('key_notes_hint')}</small></label>
        {bad && <p class="bad" role="alert">{bad}</p>}
        <p class="acts"><button type="button" class="button" onClick={onClose}>{t('cancel')}</button><button class="button primary" disabled={busy}>{t(of ? 'save' : 'key_make')}</button></p>
      </form>
    </Dialog>
  )
}

// Made shows a credential, which nothing else ever does.
export function Made({ of, secret, onClose }: { of: Key; secret: string; onClose: () => void }) {
  const { t } = useLocal()
  return (
    <Dialog title={t('key_made', { name: of.name })} onClose={onClose}>
      <div class="made">
        <p>{t('key_once')}</p>
        <div class="secret"><code data-secret tabIndex={0}>{secret}</code><Copy text={secret} label={t('copy')} /></div>
        <p class="acts"><button class="button primary" onClick={onClose}>{t('key_kept')}</button></p>
      </div>
    </Dialog>
  )
}

const graces = [['', 'grace_none'], ['1h', 'grace_1h'], ['24h', 'grace_24h'], ['168h', 'grace_168h']] as const

// Rotate gives a key a new credential.
export function Rotate({ of, onMade, onClose }: { of: Key; onMade: (k: MadeKey) => void; onClose: () => void }) {
  const { t } = useLocal()
  const { ask, busy, error } = useAsk(onMade)
  const submit = (e: SubmitEvent) => {
    e.preventDefault()
    const grace = String(new FormData(e.currentTarget as HTMLFormElement).get('grace'))
    ask('POST', path(of) + '/rotate', grace ? { grace } : {})
  }
  return (
    <Dialog title={t('key_rotate') + ': ' + of.name} onClose={onClose}>
      <form onSubmit={submit}>
        <p>{t('key_rotate_text')}</p>
        <label>{t('key_grace')}<select name="grace" autoFocus>{graces.map(([v, w]) => <option key={v} value={v}>{t(w)}</option>)}</select></label>
        {error && <p class="bad" role="alert">{error}</p>}
        <p class="acts"><button type="button" class="button" onClick={onClose}>{t('cancel')}</button><button class="button primary" disabled={busy}>{t('key_rotate')}</button></p>
      </form>
    </Dialog>
  )
}

// Revoke ends a key, when it was asked for twice.
export function Revoke({ of, onDone, onClose }: { of: Key; onDone: () => void; onClose: () => void }) {
  const { t } = useLocal()
  const { ask, busy, error } = useAsk(onDone)
  return (
    <Dialog title={t('key_revoke') + ': ' + of.name} onClose={onClose}>
      <form onSubmit={e => { e.preventDefault(); ask('DELETE', path(of)) }}>
        <p>{t('key_revoke_text')}</p>
        {error && <p class="bad" role="alert">{error}</p>}
        <p class="acts"><button type="button" class="button" autoFocus onClick={onClose}>{t('cancel')}</button><button class="button danger" disabled={busy}>{t('key_revoke')}</button></p>
      </form>
    </Dialog>
  )
}
