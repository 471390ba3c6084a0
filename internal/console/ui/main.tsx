import { render } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import { Failure, get, onSignedOut, request, type Me } from './api'
import { Help } from './help'
import { setServerZone, useLocal } from './i18n'
import { connect, disconnect } from './live'
import { Overview } from './overview'
import { Requests } from './requests'
import { Shell } from './shell'
import { SignIn } from './signin'
import { Problem } from './states'
import { useRoute, visit } from './url'
import { applyTheme } from './theme'

applyTheme()

// A link from the terminal carries the key behind the #, where it is never
// sent: it becomes a session and leaves the address.
async function arrive(): Promise<Me> {
  const key = new URLSearchParams(location.hash.slice(1)).get('key')
  if (key === null) return get<Me>('/api/v1/session')
  history.replaceState(null, '', location.pathname + location.search)
  return request<Me>('POST', '/api/v1/session', { key })
}

function App() {
  const { path } = useRoute()
  const { t, lang } = useLocal()
  const [me, setMe] = useState<Me | null>()
  const [error, setError] = useState<Failure>()
  const [help, setHelp] = useState(false)

  const enter = () => {
    setError(undefined)
    arrive().then(welcome, (e: Failure) => e.status === 401 || e.status === 403 ? setMe(null) : setError(e))
  }
  const welcome = (m: Me) => {
    if (!m.signed_in) { setMe(null); return }
    setServerZone(m.zone)
    setMe(m)
    connect()
  }
  const leave = () => { disconnect(); setMe(null) }
  useEffect(() => { onSignedOut(leave); enter() }, [])
  useEffect(() => {
    document.documentElement.lang = lang
    document.title = (path === '/requests' ? t('requests') : t('overview')) + ' · Sheepgate'
  }, [lang, path])

  const pending = useRef(0)
  useEffect(() => {
    const press = (e: KeyboardEvent) => {
      if (e.metaKey || e.ctrlKey || e.altKey || !me) return
      if (e.key === 'Escape') setHelp(false)
      if ((e.target as HTMLElement).closest('input,select,textarea')) return
      const second = performance.now() - pending.current < 1000
      pending.current = 0
      if (second && e.key === 'o') visit('/')
      else if (second && e.key === 'r') visit('/requests')
      else if (e.key === 'g') pending.current = performance.now()
      else if (e.key === '?') setHelp(h => !h)
      else if (e.key === '/') {
        e.preventDefault()
        if (!document.getElementById('filter')) visit('/requests')
        setTimeout(() => document.getElementById('filter')?.focus())
      }
    }
    addEventListener('keydown', press)
    return () => removeEventListener('keydown', press)
  }, [me])

  if (error) return <main class="page" id="main"><Problem error={error} retry={enter} stale={false} /></main>
  if (me === undefined) return null
  if (me === null) return <SignIn onDone={welcome} />
  return (
    <>
      <Shell me={me} onHelp={() => setHelp(true)} onLeave={leave} />
      {path === '/requests' ? <Requests me={me} /> : <Overview me={me} />}
      {help && <Help onClose={() => setHelp(false)} />}
    </>
  )
}

render(<App />, document.getElementById('app')!)
