import { useState } from 'preact/hooks'
import type { Failure, Me } from './api'
import { useLocal } from './i18n'
import { Icon } from './icons'

export function Copy({ text, label, small }: { text: string | (() => string); label: string; small?: boolean }) {
  const { t } = useLocal()
  const [done, setDone] = useState(false)
  const copy = async () => {
    const value = typeof text === 'string' ? text : text()
    try {
      await navigator.clipboard.writeText(value)
    } catch { // no clipboard over plain HTTP to another host
      const area = document.createElement('textarea')
      area.value = value
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
      <span><b>{t(error.status === 0 ? 'offline' : 'failed')}</b> {error.status === 0 ? '' : (error.code === 'store_unavailable' ? t('store_unavailable') : error.message + '.') + ' '}{error.passing && t('again')} {stale && t('stale')}</span>
      <button class="button" onClick={retry}>{t('retry')}</button>
    </div>
  )
}

// Empty is what a new installation shows: the call that fills it.
export function Empty({ me }: { me: Me }) {
  const { t } = useLocal()
  const key = me.demo_key || 'YOUR_KEY', model = me.example_model
  const curl = `curl ${location.origin}/v1/chat/completions \\
  -H "Authorization: Bearer ${key}" \\
  -H "Content-Type: application/json" \\
  -d '{"model":"${model}","messages":[{"role":"user","content":"Hello"}]}'`
  const text = model ? curl : 'providers:\n  openai: { key: env:OPENAI_API_KEY }'
  return (
    <section class="card empty">
      <h2>{t(model ? 'empty_title' : 'empty_none')}</h2>
      <p>{t(!model ? 'empty_none_text' : me.admin ? 'empty_text' : 'empty_own')}</p>
      <div class="code"><pre tabIndex={0} aria-label={t('example')}>{text}</pre><Copy text={text} label={t('copy')} /></div>
      <p class="note">{t(!model ? 'empty_none_more' : me.demo_key ? 'empty_demo' : 'empty_more')}</p>
    </section>
  )
}
