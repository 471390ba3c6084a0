import { useCallback, useEffect, useRef, useState } from 'preact/hooks'
import type { ComponentChildren } from 'preact'
import { request, type Me } from './api'
import { useLocal, zones } from './i18n'
import { Icon, Logo } from './icons'
import { latestEvent, useEvents, useLink } from './live'
import { applyTheme, theme, type Theme } from './theme'
import { useNarrow } from './data'
import { go, useRoute, visit, visiting } from './url'

const next: Record<Theme, Theme> = { auto: 'light', light: 'dark', dark: 'auto' }
const face = { auto: 'auto', light: 'sun', dark: 'moon' } as const

export function Switches() {
  const { t, lang } = useLocal()
  const [now, setNow] = useState(theme())
  const turn = () => { applyTheme(next[now]); setNow(next[now]) }
  const speak = (l: string) => { localStorage.setItem('lang', l); go({ lang: l }, undefined, true) }
  return (
    <>
      <button class="icon" onClick={turn} title={t(('theme_' + now) as 'theme_auto')} aria-label={t(('theme_' + now) as 'theme_auto')}><Icon name={face[now]} /></button>
      <button class="text" lang={lang === 'ko' ? 'en' : 'ko'} onClick={() => speak(lang === 'ko' ? 'en' : 'ko')}>{lang === 'ko' ? 'English' : '한국어'}</button>
    </>
  )
}

export function Shell({ me, onHelp, onLeave }: { me: Me; onHelp: () => void; onLeave: () => void }) {
  const { path } = useRoute()
  const { t, f, zone } = useLocal()
  const link = useLink()
  const [lost, setLost] = useState(latestEvent()?.lost ?? 0)
  useEvents(useCallback(e => setLost(e.lost), []))
  const leave = () => request('DELETE', '/api/v1/session').then(onLeave, onLeave)
  const to = (p: string) => ({
    href: visiting(p), 'aria-current': (path === p ? 'page' : undefined) as 'page' | undefined,
    onClick: (e: MouseEvent) => { if (!e.metaKey && !e.ctrlKey) { e.preventDefault(); visit(p) } },
  })
  const narrow = useNarrow()
  const tools = (
    <>
      <select class="quiet" aria-label={t('timezone')} title={t('timezone')} value={zone} onChange={e => go({ tz: e.currentTarget.value }, undefined, true)}>
        {[...new Set([...zones(), zone])].map(z => <option key={z} value={z}>{z}</option>)}
      </select>
      <Switches />
      <button class="icon" title={t('help')} aria-label={t('help')} onClick={onHelp}><Icon name="help" /></button>
      <button class="icon" title={t('sign_out')} aria-label={t('sign_out')} onClick={leave}><Icon name="out" /></button>
    </>
  )
  return (
    <header class="top">
      <a class="skip" href="#main">{t('skip')}</a>
      <span class="brand"><Logo /><b>Sheepgate</b>{me.demo && <span class="chip">{t('demo')}</span>}</span>
      <nav aria-label={t('pages')}><a {...to('/')}>{t('overview')}</a><a {...to('/requests')}>{t('requests')}</a><a {...to('/keys')}>{t(me.admin ? 'keys' : 'key_mine')}</a><a {...to('/limits')}>{t('limits')}</a></nav>
      <span class="space" />
      {lost > 0 && <span class="chip bad" role="status" title={t('lost_more')}><Icon name="warn" />{t('lost_n', { n: f.int(lost) })}</span>}
      <span class={'link-state ' + link} role="status" title={t(('link_more_' + link) as 'link_more_open')}><i /><span>{t(('link_' + link) as 'link_open')}</span></span>
      {narrow ? <Menu>{tools}</Menu> : tools}
    </header>
  )
}

// Menu holds what the top has no room for.
function Menu({ children }: { children: ComponentChildren }) {
  const { t } = useLocal()
  const box = useRef<HTMLDetailsElement>(null)
  useEffect(() => {
    const outside = (e: MouseEvent) => { if (!box.current!.contains(e.target as Node)) box.current!.open = false }
    addEventListener('mousedown', outside)
    return () => removeEventListener('mousedown', outside)
  }, [])
  return <details class="menu" ref={box}><summary class="icon" aria-label={t('more')}><Icon name="more" /></summary><div class="card">{children}</div></details>
}
