import { useState } from 'preact/hooks'
import { Failure, request, type Me } from './api'
import { useLocal } from './i18n'
import { Logo } from './icons'
import { Switches } from './shell'

export function SignIn({ onDone, refused }: { onDone: (m: Me) => void; refused?: Failure }) {
  const { t } = useLocal()
  const [failure, setFailure] = useState(refused)
  const say = (e: Failure) => e.status === 401 ? t('wrong_key') : e.status === 403 ? t('no_pages') : e.status === 0 ? t('offline') : e.message
  const error = failure ? say(failure) : ''
  const [busy, setBusy] = useState(false)
  const submit = (e: SubmitEvent) => {
    e.preventDefault()
    const key = String(new FormData(e.currentTarget as HTMLFormElement).get('key')).trim()
    setBusy(true)
    request<Me>('POST', '/api/v1/session', { key }).then(onDone, (e: Failure) => {
      setBusy(false)
      setFailure(e)
    })
  }
  return (
    <main class="signin" id="main">
      <form class="card" onSubmit={submit}>
        <h1><Logo />Sheepgate</h1>
        <p>{t('signin_text')}</p>
        <input name="username" type="text" autoComplete="username" value="sheepgate" hidden readOnly />
        <label>{t('signin_key')}<input name="key" type="password" required autoFocus autoComplete="current-password" spellcheck={false} aria-invalid={!!error} aria-describedby="signin-error" /></label>
        <p id="signin-error" class="bad" role="alert">{error}</p>
        <button class="button primary" disabled={busy}>{t('sign_in')}</button>
        <p class="note">{t('signin_more')} <code>sheepgate key reset-admin</code></p>
      </form>
      <div class="switches"><Switches /></div>
    </main>
  )
}
