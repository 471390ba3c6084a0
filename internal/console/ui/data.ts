import { useCallback, useEffect, useRef, useState } from 'preact/hooks'
import { Failure, type LiveEvent } from './api'
import { useEvents } from './live'

export interface Loaded<V> { value?: V; error?: Failure; loading: boolean; reload: () => void }

const slowest = 60_000 // at least one look a minute, also when nothing happens
const afterFailure = 4000

// useLoad loads what key stands for: at once when key changes and, while live,
// again soon after something happened. How soon depends on how long an answer
// takes, so that a page never spends more than a fifth of the server's time.
// What could not be had is asked for again. What changes by itself is looked at
// every so many milliseconds.
export function useLoad<V>(key: string, load: (signal: AbortSignal) => Promise<V>, live: boolean, every = slowest): Loaded<V> {
  const [state, set] = useState<{ of?: string; value?: V; error?: Failure; loading: boolean }>({ loading: true })
  const job = useRef({ load, key, took: 0, ended: 0, running: false, dirty: false, timer: 0 as any, abort: undefined as AbortController | undefined })
  job.current.load = load

  const run = useCallback(async () => {
    const j = job.current
    clearTimeout(j.timer)
    j.abort?.abort()
    const abort = j.abort = new AbortController()
    j.running = true
    j.dirty = false
    const begun = performance.now(), mine = j.key
    let wait = 0
    try {
      const value = await j.load(abort.signal)
      if (abort.signal.aborted) return
      set({ of: mine, value, loading: false })
    } catch (e) {
      if (abort.signal.aborted) return
      const error = e instanceof Failure ? e : new Failure(-1, 'bug', String(e))
      set(s => ({ ...s, value: s.of === mine ? s.value : undefined, error, loading: false })) // never the numbers of something else
      if (error.passing) wait = afterFailure
    }
    j.took = performance.now() - begun
    j.ended = performance.now()
    j.running = false
    if (wait) j.timer = setTimeout(run, wait)
    else if (j.dirty) soon()
  }, [])

  const soon = useCallback(() => {
    const j = job.current
    j.dirty = true
    if (j.running || document.hidden) return
    clearTimeout(j.timer)
    j.timer = setTimeout(run, Math.max(0, j.ended + Math.max(900, j.took * 4) - performance.now()))
  }, [])

  useEffect(() => {
    job.current.key = key
    set(s => ({ of: s.of, value: s.value, loading: true }))
    run()
    return () => { clearTimeout(job.current.timer); job.current.abort?.abort() }
  }, [key])

  useEvents(useCallback((e: LiveEvent) => { if (e.gap || live && e.deltas.length > 0) soon() }, [live]))
  useEffect(() => {
    if (!live) return
    const seen = () => { if (!document.hidden) soon() }
    const slow = setInterval(seen, every)
    document.addEventListener('visibilitychange', seen)
    return () => { clearInterval(slow); document.removeEventListener('visibilitychange', seen) }
  }, [live])

  return { value: state.value, error: state.error, loading: state.loading, reload: run }
}

// useMedia reports whether a media query holds.
export function useMedia(query: string): boolean {
  const [holds, set] = useState(() => matchMedia(query).matches)
  useEffect(() => {
    const m = matchMedia(query), f = () => set(m.matches)
    m.addEventListener('change', f)
    f()
    return () => m.removeEventListener('change', f)
  }, [query])
  return holds
}

export const useNarrow = () => useMedia('(max-width: 760px)')
