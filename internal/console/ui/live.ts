import { useEffect, useState } from 'preact/hooks'
import { get, signedOut, type LiveEvent, type Me } from './api'

// One EventSource a tab says that something happened; the numbers themselves
// are read from the API again, so that they are always the API's.

export type Link = 'connecting' | 'open' | 'offline'

let source: EventSource | undefined
let link: Link = 'connecting'
let broke = false // the line was down: what happened meanwhile is not known
let latest: LiveEvent | undefined
let again: ReturnType<typeof setTimeout> | undefined
let recent: [at: number, requests: number][] = []
const events = new Set<(e: LiveEvent) => void>()
const links = new Set<() => void>()

function setLink(l: Link) {
  if (l !== link) { link = l; links.forEach(f => f()) }
}

export function connect() {
  disconnect()
  source = new EventSource('/api/v1/stream')
  source.onmessage = m => {
    const e = latest = JSON.parse(m.data) as LiveEvent
    e.gap ||= broke
    broke = false
    setLink('open')
    const now = Date.parse(e.at), count = e.deltas.reduce((n, d) => n + d.requests, 0)
    if (e.gap) recent = []
    recent = [...recent.filter(([at]) => now - at < window), [now, count]]
    events.forEach(f => f(e))
  }
  source.onerror = () => {
    broke = true
    setLink('offline')
    if (source?.readyState !== EventSource.CLOSED) return // it tries again by itself
    retry()
  }
}

// retry opens a stream that the browser has given up.
function retry() {
  clearTimeout(again)
  again = setTimeout(() => get<Me>('/api/v1/session').then(me => me.signed_in ? connect() : signedOut(), retry), 3000)
}

export function disconnect() {
  clearTimeout(again)
  source?.close()
  source = undefined
}

const window = 10_000

// perSecond is how many Calls ended a second, over the last ten.
export function perSecond(): number | null {
  const since = recent[0]?.[0]
  if (link !== 'open' || !latest || since === undefined || recent.length < 2) return null
  return recent.slice(1).reduce((n, [, c]) => n + c, 0) / Math.max(1, (Date.now() - since) / 1000)
}

export function useEvents(f: (e: LiveEvent) => void) {
  useEffect(() => {
    events.add(f)
    return () => { events.delete(f) }
  }, [f])
}

export function useLink(): Link {
  const [, redraw] = useState(0)
  useEffect(() => {
    const f = () => redraw(n => n + 1)
    links.add(f)
    f() // it may have changed before this effect ran
    return () => { links.delete(f) }
  }, [])
  return link
}

export const latestEvent = () => latest
