import { useCallback, useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import { code, get, Failure, type Call, type Me } from './api'
import { Detail } from './detail'
import { FilterBar } from './filters'
import { useLocal } from './i18n'
import { Icon } from './icons'
import { useEvents } from './live'
import { Empty, Problem } from './states'
import { iso, rangeOf, seconds } from './time'
import { dims, filterOf, go, useRoute } from './url'

const rowHeight = 32
const page = 100
const most = 5000 // rows that new ones may grow the list to; then the oldest make room

interface List { calls: Call[]; next: string; loading: boolean; error?: Failure }

export function Requests({ me }: { me: Me }) {
  const { params } = useRoute()
  const { t, f } = useLocal()
  const [paused, setPaused] = useState(false)
  const [missed, setMissed] = useState(0)
  const [list, set] = useState<List>({ calls: [], next: '', loading: true })
  const [chosen, choose] = useState<string | null>(params.get('call'))
  const rows = useRef<HTMLDivElement>(null)
  const abort = useRef<AbortController>()
  const range = rangeOf(params, Date.now() / 1000, me.zone)
  const filter = filterOf(params), text = (params.get('q') ?? '').toLowerCase()
  const key = JSON.stringify([params.get('range'), params.get('from'), params.get('to'), filter, text])
  const open = params.get('call')
  const at = list.calls.findIndex(c => c.id === chosen)

  const search = (cursor = '') => {
    const p = new URLSearchParams({ limit: String(page) })
    const begin = range.live ? Date.now() / 1000 - seconds(range.name) : range.from
    p.set('from', iso(begin))
    if (!range.live) p.set('to', iso(range.to))
    for (const d of dims) for (const v of params.getAll(d)) p.append(d, v)
    for (const v of params.getAll('tag')) p.append('tag', v)
    if (text) p.set('q', text)
    if (cursor) p.set('cursor', cursor)
    return '/api/v1/calls?' + p
  }

  const load = useCallback(async (cursor: string) => {
    abort.current?.abort()
    const mine = abort.current = new AbortController()
    set(l => ({ ...l, loading: true, error: undefined }))
    try {
      const got = await get<{ calls: Call[]; next: string }>(search(cursor), mine.signal)
      set(l => ({ calls: cursor ? merge(l.calls, got.calls) : got.calls, next: got.next, loading: false }))
    } catch (e) {
      if (!mine.signal.aborted) set(l => ({ ...l, loading: false, error: e instanceof Failure ? e : new Failure(0, 'bug', String(e)) }))
    }
  }, [key])

  useEffect(() => {
    setMissed(0)
    choose(null)
    rows.current?.scrollTo(0, 0)
    load('')
    return () => abort.current?.abort()
  }, [key])

  // New Calls come in at the top; a reader further down keeps the place.
  useEvents(useCallback(e => {
    if (!range.live) return
    const fresh = e.calls.filter(c => matches(c, filter, text))
    if (e.gap) { load(''); return }
    if (fresh.length === 0) return
    if (paused) { setMissed(n => n + fresh.length + e.skipped); return }
    set(l => {
      const calls = merge([...fresh].reverse(), l.calls)
      const el = rows.current, added = calls.length - l.calls.length
      if (el && el.scrollTop > rowHeight) requestAnimationFrame(() => { el.scrollTop += added * rowHeight })
      return { ...l, calls: l.calls.length > most ? calls.slice(0, l.calls.length) : calls }
    })
  }, [key, paused, range.live]))

  const resume = () => { setPaused(false); setMissed(0); if (missed > 0) load('') }
  const show = (c: Call) => { choose(c.id); go({ call: c.id }, undefined, open !== null) }

  useEffect(() => {
    const press = (e: KeyboardEvent) => {
      if (e.metaKey || e.ctrlKey || e.altKey || (e.target as HTMLElement).closest('input,select,textarea')) return
      if (e.key === 'j' || e.key === 'k') {
        const i = Math.max(0, Math.min(list.calls.length - 1, at + (e.key === 'j' ? 1 : -1)))
        if (list.calls[i]) choose(list.calls[i].id)
        if (open && list.calls[i]) go({ call: list.calls[i].id }, undefined, true)
        reveal(rows.current, i)
      } else if (e.key === 'Enter' && at >= 0 && !(e.target as HTMLElement).closest('button,a,summary')) {
        if (list.calls[at]) show(list.calls[at])
      } else if (e.key === 'Escape' && open) go({ call: null })
      else if (e.key === 'p') paused ? resume() : setPaused(true)
      else return
      e.preventDefault()
    }
    addEventListener('keydown', press)
    return () => removeEventListener('keydown', press)
  })

  const none = list.calls.length === 0 && !list.loading && !list.error
  const filtered = Object.keys(filter).length > 0 || text !== ''
  return (
    <main class="page requests" id="main">
      <h1 class="unseen">{t('requests')}</h1>
      <FilterBar me={me} dims={[...dims]} search>
        {range.live && (
          <button class={'button' + (paused ? ' primary' : '')} aria-pressed={paused} onClick={() => paused ? resume() : setPaused(true)}>
            <Icon name={paused ? 'play' : 'pause'} />{paused ? missed ? t('resume_n', { n: f.int(missed) }) : t('resume') : t('pause')}
          </button>
        )}
      </FilterBar>
      {list.error && <Problem error={list.error} retry={() => load('')} stale={list.calls.length > 0} />}
      <div class={'split' + (open ? ' open' : '')}>
        {none && !filtered ? <Empty me={me} /> : (
          <Rows box={rows} calls={list.calls} at={at} open={open} loading={list.loading} none={none}
            onOpen={show} more={list.next && !list.loading ? () => load(list.next) : undefined} />
        )}
        {open && <Detail id={open} known={list.calls.find(c => c.id === open)} onClose={() => go({ call: null })} />}
      </div>
    </main>
  )
}

// merge joins two lists, newest first, without repeating a Call.
function merge(a: Call[], b: Call[]): Call[] {
  const seen = new Set<string>()
  return [...a, ...b].filter(c => !seen.has(c.id) && seen.add(c.id)).sort((x, y) => x.started_at < y.started_at ? 1 : x.started_at > y.started_at ? -1 : x.id < y.id ? 1 : -1)
}

// matches is the API's filter, for Calls that come over the live stream.
function matches(c: Call, filter: Record<string, string[]>, text: string): boolean {
  if (['judge', 'bench', 'playground'].includes(c.origin)) return false
  for (const [d, values] of Object.entries(filter)) {
    const v = d === 'code' ? code(c) : d.startsWith('tag:') ? c.tags[d.slice(4)] ?? '' : String((c as any)[d] ?? '')
    if (!values.includes(v)) return false
  }
  return !text || [c.id, c.response_id, c.error.message, c.model, c.model_requested, c.user, c.session, ...Object.entries(c.tags).flat()].some(s => s.toLowerCase().includes(text))
}

function reveal(el: HTMLElement | null, i: number) {
  if (!el) return
  const top = i * rowHeight
  if (top < el.scrollTop) el.scrollTop = top
  else if (top + 2 * rowHeight > el.scrollTop + el.clientHeight) el.scrollTop = top + 2 * rowHeight - el.clientHeight
}

interface RowsProps {
  box: { current: HTMLDivElement | null }; calls: Call[]; at: number; open: string | null; loading: boolean; none: boolean
  onOpen: (c: Call) => void; more?: () => void
}

// Rows draws only what is in sight.
function Rows({ box, calls, at, open, loading, none, onOpen, more }: RowsProps) {
  const { t, f } = useLocal()
  const [view, setView] = useState({ top: 0, height: 800 })
  useLayoutEffect(() => {
    const el = box.current!
    const look = () => setView({ top: el.scrollTop, height: el.clientHeight })
    const sized = new ResizeObserver(look)
    sized.observe(el)
    el.addEventListener('scroll', look, { passive: true })
    return () => { sized.disconnect(); el.removeEventListener('scroll', look) }
  }, [])
  useEffect(() => { if (more && (calls.length - 20) * rowHeight < view.top + view.height) more() }, [view, more, calls.length])
  const first = Math.max(0, Math.floor(view.top / rowHeight) - 8)
  const last = Math.min(calls.length, Math.ceil((view.top + view.height) / rowHeight) + 8)
  return (
    <div class="rows card" ref={box} tabIndex={0} role="region" aria-label={t('list')}>
      <table aria-rowcount={calls.length}>
        <thead>
          <tr>
            <th scope="col">{t('time')}</th><th scope="col">{t('status')}</th><th scope="col">{t('model')}</th><th scope="col">{t('key')}</th>
            <th scope="col" class="n">{t('input')}</th><th scope="col" class="n">{t('output')}</th><th scope="col" class="n">{t('ttft')}</th>
            <th scope="col" class="n">{t('latency')}</th><th scope="col" class="n">{t('cost')}</th>
          </tr>
        </thead>
        <tbody>
          {first > 0 && <tr style={{ height: first * rowHeight + 'px' }} aria-hidden="true"><td colSpan={9} /></tr>}
          {calls.slice(first, last).map((c, i) => (
            <tr key={c.id} aria-rowindex={first + i + 1} class={(c.id === open ? 'open ' : '') + (first + i === at ? 'at' : '')} onClick={() => onOpen(c)}>
              <td class="t"><button class="link" title={t('open_call', { id: c.id })}>{f.second(Date.parse(c.started_at) / 1000)}</button></td>
              <td><Badge call={c} /></td>
              <td class="m" title={c.provider + '/' + c.model}>{c.model || c.model_requested}<small>{c.provider}</small></td>
              <td class="k">{c.key}{c.attempts.length > 1 && <small title={t('attempts_n', { n: c.attempts.length })}>↻{c.attempts.length}</small>}</td>
              <td class="n">{f.int(c.usage.input_tokens)}</td><td class="n">{f.int(c.usage.output_tokens)}</td>
              <td class="n dim">{c.ttft_ms ? f.ms(c.ttft_ms) : ''}</td><td class="n">{f.ms(c.latency_ms)}</td>
              <td class="n" title={c.cost_nano_usd === null ? t('unpriced') : f.exact(c.cost_nano_usd)}>{c.cost_nano_usd === null ? <span class="unpriced">{t('unpriced')}</span> : c.cost_nano_usd === 0 ? <span class="dim">{f.usd(0)}</span> : f.usd(c.cost_nano_usd)}</td>
            </tr>
          ))}
          {last < calls.length && <tr style={{ height: (calls.length - last) * rowHeight + 'px' }} aria-hidden="true"><td colSpan={9} /></tr>}
        </tbody>
      </table>
      {loading && <p class="note center" role="status">{t('loading')}</p>}
      {none && <p class="note center">{t('no_match')} <button class="link" onClick={() => go({ model: null, provider: null, key: null, code: null, tag: null, q: null, range: '90d', from: null, to: null })}>{t('widen')}</button></p>}
      {!loading && !none && !more && <p class="note center">{t('end')}</p>}
    </div>
  )
}

export function Badge({ call: c }: { call: Call }) {
  const { t } = useLocal()
  const k = code(c)
  return <span class={'badge b-' + k}><i />{k === 'canceled' ? t('canceled') : c.http_status}{c.error.class && k !== 'canceled' && <small>{c.error.class}</small>}</span>
}
