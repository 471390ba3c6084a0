import { useCallback, useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import { code, get, query, Failure, type Call, type Me, type Page, type Result } from './api'
import { Plot } from './chart'
import { useLoad, useMedia, useNarrow } from './data'
import { Detail } from './detail'
import { FilterBar } from './filters'
import { days, useLocal } from './i18n'
import { Icon } from './icons'
import { useEvents } from './live'
import { at, failures, measures, outcomes } from './numbers'
import { reveal, Rows, rowHeight, tallRow } from './rows'
import { Empty, Problem } from './states'
import { iso, rangeOf, seconds, stepName, ticks, type Range } from './time'
import { dims, filterOf, go, only, useRoute, type Filter } from './url'

const page = 100
const most = 5000 // rows that new ones may grow the list to; then the oldest make room
const afterFailure = 4000

// A List is read page by page: each remembers its last Call and the cursor
// behind it.
interface List { of: string; calls: Call[]; pages: { last: string; next: string }[]; loading: boolean; error?: Failure }

export function Requests({ me }: { me: Me }) {
  const { params } = useRoute()
  const { t, f } = useLocal()
  const [paused, setPaused] = useState(false)
  const [missed, setMissed] = useState(0)
  const [list, set] = useState<List>({ of: '', calls: [], pages: [], loading: true })
  const [chosen, choose] = useState<string | null>(params.get('call'))
  const rows = useRef<HTMLDivElement>(null)
  const abort = useRef<AbortController | undefined>(undefined)
  const arrived = useRef<Call[]>([]) // since the newest page was asked for
  const narrow = useNarrow(), alone = useMedia('(max-width: 1100px)')
  const height = narrow ? tallRow : rowHeight
  const range = rangeOf(params, Date.now() / 1000, days())
  const filter = filterOf(params), text = (params.get('q') ?? '').toLowerCase()
  const key = JSON.stringify([params.get('range'), params.get('from'), params.get('to'), filter, text])
  const open = params.get('call')
  const index = list.calls.findIndex(c => c.id === chosen)

  const search = (cursor = '') => {
    const p = new URLSearchParams({ limit: String(page) })
    const begin = range.live ? Date.now() / 1000 - seconds(range.name) : range.from
    p.set('from', iso(begin))
    if (!range.live) p.set('to', iso(range.to))
    for (const d of [...dims, 'tag']) for (const v of params.getAll(d)) p.append(d, v)
    if (text) p.set('q', text)
    if (cursor) p.set('cursor', cursor)
    return '/api/v1/calls?' + p
  }

  const load = useCallback(async (cursor: string) => {
    abort.current?.abort()
    const mine = abort.current = new AbortController()
    if (!cursor) arrived.current = []
    set(l => ({ ...l, loading: true, error: undefined }))
    try {
      const got = await get<Page>(search(cursor), mine.signal)
      const end = { last: got.calls.at(-1)?.id ?? '', next: got.next }
      set(l => cursor ? { ...l, calls: merge(l.calls, got.calls), pages: [...l.pages, end], loading: false } : { of: key, calls: merge(arrived.current, got.calls), pages: [end], loading: false })
    } catch (e) {
      if (mine.signal.aborted) return
      const error = e instanceof Failure ? e : new Failure(-1, 'bug', String(e))
      set(l => ({ ...l, ...(l.of !== key && { calls: [], pages: [] }), loading: false, error })) // never the Calls of another filter
      if (error.passing) setTimeout(() => { if (!mine.signal.aborted) load(cursor) }, afterFailure)
    }
  }, [key])

  useEffect(() => {
    setMissed(0)
    choose(params.get('call'))
    rows.current?.scrollTo(0, 0)
    load('')
    return () => abort.current?.abort()
  }, [key])

  // New Calls come in at the top; a reader further down keeps the place. When
  // more come than the stream tells, the newest page is read again.
  useEvents(useCallback(e => {
    if (e.gap) { load(''); return }
    if (!range.live) return
    const fresh = e.calls.filter(c => matches(c, filter, text))
    const down = (rows.current?.scrollTop ?? 0) > height
    if (paused || e.skipped > 0 && down) { if (!paused) setPaused(true); setMissed(n => n + fresh.length); return }
    if (e.skipped > 0) { load(''); return }
    if (fresh.length === 0) return
    arrived.current.push(...fresh)
    set(l => {
      const calls = merge(fresh, l.calls), added = calls.length - l.calls.length
      if (down) requestAnimationFrame(() => { rows.current!.scrollTop += added * height })
      return trim({ ...l, calls })
    })
  }, [key, paused, range.live, height]))

  const pause = () => setPaused(true)
  const resume = () => { setPaused(false); setMissed(0); if (missed > 0) load('') }
  const show = (c: Call) => { choose(c.id); go({ call: c.id }, undefined, open !== null) }
  const close = () => go({ call: null }, undefined, true)

  // Before the next event, or a second key would meet the first one's list.
  useLayoutEffect(() => {
    const press = (e: KeyboardEvent) => {
      const on = e.target as HTMLElement
      if (e.metaKey || e.ctrlKey || e.altKey || on.closest('input,select,textarea') || document.querySelector('dialog[open]')) return
      if (e.key === 'j' || e.key === 'k') {
        const i = Math.max(0, Math.min(list.calls.length - 1, index + (e.key === 'j' ? 1 : -1)))
        if (!list.calls[i]) return
        choose(list.calls[i].id)
        if (open) go({ call: list.calls[i].id }, undefined, true)
        reveal(rows.current, i, height)
      } else if (e.key === 'Enter' && index >= 0 && !on.closest('button,a,summary')) show(list.calls[index])
      else if (e.key === 'Escape' && open) close()
      else if (e.key === 'p' && range.live) paused ? resume() : pause()
      else return
      e.preventDefault()
    }
    addEventListener('keydown', press)
    return () => removeEventListener('keydown', press)
  })

  const next = list.pages.at(-1)?.next
  const none = list.calls.length === 0 && !list.loading && !list.error
  const filtered = Object.keys(filter).length > 0 || text !== '' || !range.live
  return (
    <main class="page requests" id="main" tabIndex={-1}>
      <h1 class="unseen">{t('requests')}</h1>
      <FilterBar me={me} dims={['model', 'provider', 'key', 'code']} search>
        {range.live && (
          <button class={'button' + (paused ? ' primary' : '')} aria-pressed={paused} title={t('k_pause')} aria-label={t('pause')} onClick={paused ? resume : pause}>
            <Icon name={paused ? 'play' : 'pause'} />{paused && <span>{missed ? t('resume_n', { n: f.int(missed) }) : t('resume')}</span>}
          </button>
        )}
      </FilterBar>
      {list.error && <Problem error={list.error} retry={() => load('')} stale={list.pages.length > 0} />}
      {none && !filtered ? <Empty me={me} /> : (
        <>
          {!(open && alone) && <Strip filter={filter} text={text} paused={paused} />}
          <div class={'split' + (open ? ' open' : '')}>
            {!(open && alone) && (
              <Rows box={rows} calls={list.calls} at={index} open={open} loading={list.loading} none={none} long={range.to - range.from > 86400} tall={narrow}
                onOpen={show} ended={list.pages.length > 0 && !next && !list.error} more={next && !list.loading ? () => load(next) : undefined} />
            )}
            {open && <Detail id={open} known={list.calls.find(c => c.id === open)} onClose={close} />}
          </div>
        </>
      )}
    </main>
  )
}

// Strip shows how many Calls there are, when, and what they come to. It cannot
// tell for a search of text, which only the list knows.
function Strip({ filter, text, paused }: { filter: Filter; text: string; paused: boolean }) {
  const { params } = useRoute()
  const { t, f } = useLocal()
  const key = JSON.stringify([params.get('range'), params.get('from'), params.get('to'), filter])
  const live = rangeOf(params, Date.now() / 1000, days()).live
  const { value } = useLoad<{ range: Range; all: Result }>(key, async signal => {
    const range = rangeOf(params, Date.now() / 1000, days())
    return { range, all: await query({ from: iso(range.from), to: iso(range.to), step: stepName(range.step), filter, measures: [...measures] }, signal) }
  }, live && !paused)
  if (text) return <p class="note strip-note">{t('strip_search')}</p>
  const v = value?.all.total, range = value?.range
  const series = value ? outcomes(value.all, ticks(value.range, days(), []), t, n => f.int(n), c => go(only('code', c))) : []
  return (
    <section class="card strip" aria-label={t('summary')}>
      <dl>
        <div><dt>{t('requests')}</dt><dd data-number="requests" data-value={v?.[0] ?? ''}>{v ? f.int(v[0]) : '–'}</dd></div>
        <div><dt>{t('errors')}</dt><dd>{v ? f.int(failures(v)) : '–'}</dd></div>
        <div><dt>P95</dt><dd>{v ? f.ms(v[at('latency_p95')]) : '–'}</dd></div>
        <div><dt>{t('cost')}</dt><dd title={v && f.exact(v[at('cost_nano_usd')])}>{v ? f.usd(v[at('cost_nano_usd')]) : '–'}</dd></div>
      </dl>
      {value && range && (
        <Plot slim id="strip" title={t('requests')} range={range} zone={days()} times={ticks(range, days(), [])} step={range.step} series={series} kind="bars" unit="count"
          format={n => f.int(n)} axis={n => f.rough(n)} least={4} empty={!v?.[0]} />
      )}
    </section>
  )
}

// trim drops the last page of a list that has grown too long; scrolling down
// reads it again.
function trim(l: List): List {
  if (l.calls.length <= most || l.pages.length < 2) return l
  const pages = l.pages.slice(0, -1)
  return { ...l, pages, calls: l.calls.slice(0, 1 + l.calls.findIndex(c => c.id === pages.at(-1)!.last)) }
}

// merge joins two lists, newest first, without repeating a Call.
function merge(a: Call[], b: Call[]): Call[] {
  const seen = new Set<string>()
  return [...a, ...b].filter(c => !seen.has(c.id) && seen.add(c.id)).sort((x, y) => x.started_at < y.started_at ? 1 : x.started_at > y.started_at ? -1 : x.id < y.id ? 1 : -1)
}

// matches is the API's filter, for Calls that come over the live stream.
function matches(c: Call, filter: Filter, text: string): boolean {
  if (['judge', 'bench', 'playground'].includes(c.origin)) return false
  for (const [d, values] of Object.entries(filter)) {
    const v = d === 'code' ? code(c) : d === 'error_class' ? c.error.class : d.startsWith('tag:') ? c.tags[d.slice(4)] ?? '' : String((c as any)[d] ?? '')
    if (!values.includes(v)) return false
  }
  return !text || [c.id, c.response_id, c.error.message, c.model, c.model_requested, c.user, c.session, ...Object.entries(c.tags).flat()].some(s => s.toLowerCase().includes(text))
}
