import { useEffect, useState } from 'preact/hooks'
import { get, signedOut, type LiveEvent, type Me } from './api'

// One EventSource a tab says that something happened; the numbers themselves
// are read from the API again, so that they are always the API's.

export type Link = 'connecting' | 'open' | 'offline'

let source: EventSource | undefined
let link: Link = 'connecting'
let latest: LiveEvent | undefined
let again: ReturnType<typeof setTimeout> | undefined
const events = new Set<(e: LiveEvent) => void>()
const links = new Set<() => void>()

function setLink(l: Link) {
  if (l !== link) { link = l; links.forEach(f => f()) }
}

export function connect() {
  disconnect()
  source = new EventSource('/api/v1/stream')
  source.onopen = () => setLink('open')
  source.onmessage = m => {
    const e = latest = JSON.parse(m.data) as LiveEvent
    setLink('open')
    events.forEach(f => f(e))
  }
  source.onerror = () => {
    setLink('offline')
    if (source?.readyState !== EventSource.CLOSED) return // it tries again by itself
    retry()
  }
}

// retry opens a stream that the browser has given up.
function retry() {
  clearTimeout(again)
  again = setTimeout(() => get<Me>('/api/v1/session').then(me => me.signed_in ? connect() : signedOut(), retry), 5000)
}

export function disconnect() {
  clearTimeout(again)
  source?.close()
  source = undefined
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
