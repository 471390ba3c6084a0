import { useState } from 'preact/hooks'
import type { ComponentChildren } from 'preact'
import type { Failure, Me } from './api'
import { useLocal } from './i18n'
import { Icon } from './icons'

export function Copy({ text, label, small }: { text: string; label: string; small?: boolean }) {
  const { t } = useLocal()
  const [done, setDone] = useState(false)
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text)
    } catch { // no clipboard over plain HTTP to another host
      const area = document.createElement('textarea')
      area.value = text
      document.body.append(area)
      area.select()
      document.execCommand('copy')
      area.remove()
    }
    setDone(true)
    setTimeout(() => setDone(false), 1500)
  }
  return (
    <button class={small ? 'icon' : 'button'} onClick={copy} title={label} aria-label={label}>
      <Icon name={done ? 'check' : 'copy'} />{!small && <span>{done ? t('copied') : label}</span>}
    </button>
  )
}

export function Problem({ error, retry, stale }: { error: Failure; retry: () => void; stale: boolean }) {
  const { t } = useLocal()
  return (
    <div class="problem" role="alert">
      <Icon name="warn" />
      <span><b>{t(error.status === 0 ? 'offline' : 'failed')}</b> {error.status === 0 ? t('offline_more') : error.message}{stale && ' ' + t('stale')}</span>
      <button class="button" onClick={retry}>{t('retry')}</button>
    </div>
  )
}

export const Kbd = ({ children }: { children: ComponentChildren }) => <kbd>{children}</kbd>

// Empty is what a new installation shows: the call that fills it.
export function Empty({ me }: { me: Me }) {
  const { t } = useLocal()
  const key = me.demo_key || 'YOUR_KEY'
  const curl = `curl ${location.origin}/v1/chat/completions \\
  -H "Authorization: Bearer ${key}" \\
  -H "Content-Type: application/json" \\
  -d '{"model":"gpt-4.1","messages":[{"role":"user","content":"Hello"}]}'`
  return (
    <section class="card empty">
      <h2>{t('empty_title')}</h2>
      <p>{t('empty_text')}</p>
      <div class="code"><pre tabIndex={0} aria-label="curl">{curl}</pre><Copy text={curl} label={t('copy')} /></div>
      <p class="note">{t('empty_more')}</p>
    </section>
  )
}
