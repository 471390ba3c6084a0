import { render } from 'preact'
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import { Failure, get, onSignedOut, request, type Me } from './api'
import { Help } from './help'
import { langOf, loadWords, setServerZone, useLocal } from './i18n'
import { connect, disconnect } from './live'
import { Keys } from './keys'
import { Limits } from './limits'
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

let arriving: Promise<Me> | undefined = arrive()
arriving.catch(() => {}) // App looks at it

const afterFailure = 4000

function App() {
  const { path } = useRoute()
  const { t, lang } = useLocal()
  const [me, setMe] = useState<Me | null>()
  const [error, setError] = useState<Failure>()
  const [refused, setRefused] = useState<Failure>()
  const [help, setHelp] = useState(false)

  const enter = () => {
    const first = arriving ?? arrive()
    arriving = undefined
    first.then(welcome, (e: Failure) => {
      if (e.status === 401 || e.status === 403) { setRefused(e); setError(undefined); setMe(null) } else setError(e)
    })
  }
  useEffect(() => {
    if (!error?.passing) return
    const again = setTimeout(enter, afterFailure)
    return () => clearTimeout(again)
  }, [error])
  const welcome = (m: Me) => {
    if (!m.signed_in) { setError(undefined); setMe(null); return }
    setError(undefined)
    setRefused(undefined)
    setServerZone(m.zone)
    setMe(m)
    connect()
  }
  const leave = () => { disconnect(); setMe(null) }
  useEffect(() => { onSignedOut(leave); enter() }, [])
  useEffect(() => {
    loadWords(lang).catch(() => {}) // the other language stays
    document.documentElement.lang = lang
    document.title = (!me ? t('sign_in') : path === '/requests' ? t('requests') : path === '/keys' ? t(me.admin ? 'keys' : 'key_mine') : path === '/limits' ? t('limits') : t('overview')) + ' · Sheepgate'
  })

  const pending = useRef(0)
  useLayoutEffect(() => {
    const press = (e: KeyboardEvent) => {
      if (e.metaKey || e.ctrlKey || e.altKey || !me) return
      if ((e.target as HTMLElement).closest('input,select,textarea')) return
      if (document.querySelector('dialog[open]') && !(help && e.key === '?')) return
      const second = performance.now() - pending.current < 1000
      pending.current = 0
      if (second && e.key === 'o') visit('/')
      else if (second && e.key === 'r') visit('/requests')
      else if (second && e.key === 'k') visit('/keys')
      else if (second && e.key === 'l') visit('/limits')
      else if (e.key === 'g') pending.current = performance.now()
      else if (e.key === '?') setHelp(h => !h)
      else if (e.key === '/') {
        e.preventDefault()
        const focus = () => document.getElementById('filter')?.focus()
        if (document.getElementById('filter')) focus()
        else { visit('/requests'); queueMicrotask(focus) } // drawn by then, and the next key is of the filter
      }
    }
    addEventListener('keydown', press)
    return () => removeEventListener('keydown', press)
  })

  if (error) return <main class="page" id="main"><Problem error={error} retry={enter} stale={false} /></main>
  if (me === undefined) return <main class="page" id="main"><p class="note center late" role="status">{t('loading')}</p></main>
  if (me === null) return <SignIn onDone={welcome} refused={refused} />
  return (
    <>
      <Shell me={me} onHelp={() => setHelp(true)} onLeave={leave} />
      {path === '/requests' ? <Requests me={me} /> : path === '/keys' ? <Keys me={me} /> : path === '/limits' ? <Limits me={me} /> : <Overview me={me} />}
      {help && <Help onClose={() => setHelp(false)} />}
    </>
  )
}

const show = () => render(<App />, document.getElementById('app')!)
loadWords(langOf(new URLSearchParams(location.search))).then(show, show)
