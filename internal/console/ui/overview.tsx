import { useMemo } from 'preact/hooks'
import { query, type Me, type Result, type Values } from './api'
import { Chart, type Series } from './chart'
import { useLoad } from './data'
import { FilterBar } from './filters'
import { useLocal, type Word } from './i18n'
import { latestEvent, useLink, useEvents } from './live'
import { iso, rangeOf, stepName, ticks, type Range } from './time'
import { filterOf, go, useRoute } from './url'
import { Empty, Problem } from './states'
import { useState, useCallback } from 'preact/hooks'

const measures = ['requests', 'errors_4xx', 'errors_429', 'errors_5xx', 'canceled', 'input_tokens', 'output_tokens', 'cost_nano_usd', 'unpriced',
  'latency_p50', 'latency_p95', 'latency_p99', 'ttft_p95', 'cache_read_tokens', 'reasoning_tokens', 'output_tokens_per_second']
const at = (name: string) => measures.indexOf(name)
const models = 8 // with a colour of their own

interface Numbers { range: Range; all: Result; before: Values; cost: Result; costStep: number }

export function Overview({ me }: { me: Me }) {
  const { params } = useRoute()
  const { t, zone } = useLocal()
  const filter = filterOf(params)
  const key = JSON.stringify([params.get('range'), params.get('from'), params.get('to'), params.get('step'), filter, me.zone])
  const live = rangeOf(params, Date.now() / 1000, me.zone).live
  const { value, error, loading, reload } = useLoad<Numbers>(key, async signal => {
    const range = rangeOf(params, Date.now() / 1000, me.zone)
    const from = iso(range.from), to = iso(range.to), step = stepName(range.step)
    const costStep = range.to - range.from > 2 * 86400 ? 86400 : range.step
    const [all, before, cost] = await Promise.all([
      query({ from, to, step, filter, measures }, signal),
      query({ from: iso(2 * range.from - range.to), to: from, filter, measures: measures.slice(0, 11) }, signal),
      query({ from, to, step: stepName(costStep), group_by: ['model'], filter, measures: ['cost_nano_usd', 'requests', 'unpriced'] }, signal),
    ])
    return { range, all, before: before.total, cost, costStep }
  }, live)

  const [inFlight, setInFlight] = useState(latestEvent()?.in_flight ?? 0)
  useEvents(useCallback(e => setInFlight(e.in_flight), []))
  const link = useLink()

  const none = value && value.all.total[0] === 0
  return (
    <main class="page" id="main">
      <h1 class="unseen">{t('overview')}</h1>
      <FilterBar me={me} dims={['model', 'provider', 'key']} range={value?.range} />
      {error && <Problem error={error} retry={reload} stale={!!value} />}
      {!value && !error && <Skeleton label={t('loading')} />}
      {value && (
        <div class={loading ? 'stale' : ''} data-from={iso(value.range.from)} data-to={iso(value.range.to)} id="numbers">
          <Headline numbers={value} inFlight={inFlight} live={live && link === 'open'} admin={me.admin} />
          {none && live && Object.keys(filter).length === 0 && !value.before[0] ? <Empty me={me} /> : <Charts numbers={value} zone={me.zone === 'Local' ? zone : me.zone} />}
        </div>
      )}
    </main>
  )
}

function Skeleton({ label }: { label: string }) {
  return <div class="skeleton" role="status" aria-label={label}><div class="headline" /><div class="grid">{[1, 2, 3, 4].map(i => <div key={i} class="card" />)}</div></div>
}

const share = (part: number, whole: number) => whole ? part / whole : null

function errors(v: Values) {
  return (v[1] ?? 0) + (v[2] ?? 0) + (v[3] ?? 0)
}

function Headline({ numbers: { all, before }, inFlight, live, admin }: { numbers: Numbers; inFlight: number; live: boolean; admin: boolean }) {
  const { t, f } = useLocal()
  const v = all.total
  const n = v[0] ?? 0, was = before[0] ?? 0
  const failed = errors(v)
  const parts: { word: Word; value: string; raw: number | null; exact?: string; now?: number | null; then?: number | null; worse?: 1 | -1; sub?: string }[] = [
    { word: 'requests', value: f.short(n), raw: n, exact: f.int(n), now: n, then: was },
    { word: 'error_rate', value: f.percent(share(failed, n)), raw: share(failed, n), exact: t('errors_of', { failed: f.int(failed), n: f.int(n) }), sub: t('errors_split', { a: f.int(v[1]), b: f.int(v[2]), c: f.int(v[3]) }) },
    { word: 'p95', value: f.ms(v[at('latency_p95')]), raw: v[at('latency_p95')], now: v[at('latency_p95')], then: before[at('latency_p95')], worse: 1, sub: t('ttft_p95', { x: f.ms(v[at('ttft_p95')]) }) },
    { word: 'tokens', value: f.short((v[5] ?? 0) + (v[6] ?? 0)), raw: (v[5] ?? 0) + (v[6] ?? 0), exact: f.int((v[5] ?? 0) + (v[6] ?? 0)), sub: t('in_out', { a: f.short(v[5]), b: f.short(v[6]) }) },
    { word: 'cost', value: f.usd(v[7]), raw: v[7], exact: f.exact(v[7]), now: v[7], then: before[7], sub: v[8] ? t('unpriced_n', { n: f.int(v[8]) }) : undefined },
  ]
  return (
    <dl class="headline">
      {parts.map(p => (
        <div key={p.word}>
          <dt>{t(p.word)}</dt>
          <dd class="big" title={p.exact} data-number={p.word} data-value={p.raw ?? ''}>{p.value}</dd>
          <dd class="sub">{p.then !== undefined && <Change now={p.now ?? null} then={p.then} worse={p.worse} />}{p.sub && <span>{p.sub}</span>}</dd>
        </div>
      ))}
      {admin && (
        <div>
          <dt>{t('in_flight')}</dt>
          <dd class="big" data-number="in_flight" data-value={inFlight}>{f.int(inFlight)}</dd>
          <dd class="sub"><span class={live ? 'live on' : 'live'}>{t(live ? 'live' : 'not_live')}</span></dd>
        </div>
      )}
    </dl>
  )
}

// Change compares with the range before, of the same length.
function Change({ now, then, worse }: { now: number | null; then: number | null; worse?: 1 | -1 }) {
  const { t, f } = useLocal()
  if (!then || now === null) return null
  const by = now / then - 1
  const tone = Math.abs(by) < 0.005 || !worse ? '' : by * worse > 0 ? ' bad' : ' good'
  return <span class={'change' + tone} title={t('change_hint')}>{by > 0 ? '▲' : by < 0 ? '▼' : '■'} {by > 9.99 ? '×' + f.int(now / then) : f.percent(Math.abs(by))}</span>
}

// column reads a measure at each time; none where there was no Call.
function column(points: [number, ...Values][] | undefined, times: number[], i: number, none: number | null) {
  const by = new Map((points ?? []).map(p => [p[0], p[i + 1] as number | null]))
  return times.map(x => by.get(x) ?? none)
}

function Charts({ numbers: { range, all, cost, costStep }, zone }: { numbers: Numbers; zone: string }) {
  const { t, f } = useLocal()
  const points = all.series[0]?.points
  const view = useMemo(() => {
    const times = ticks(range, zone, (points ?? []).map(p => p[0]))
    const col = (name: string, none: number | null = 0) => column(points, times, at(name), none)
    const total = (name: string) => all.total[at(name)]
    const n = col('requests')
    const rate = (name: string) => col(name).map((x, i) => n[i] ? (x ?? 0) / n[i]! : null)
    const color = (name: string) => `var(--${name})`
    const bad = ['errors_4xx', 'errors_429', 'errors_5xx', 'canceled'].map(m => col(m))
    const requests: Series[] = [
      { name: t('ok'), color: color('c-ok'), values: n.map((x, i) => (x ?? 0) - bad.reduce((s, b) => s + (b[i] ?? 0), 0)), total: f.short((total('requests') ?? 0) - errors(all.total) - (total('canceled') ?? 0)) },
      { name: '4xx', color: color('c-4xx'), values: bad[0], total: f.short(total('errors_4xx')) },
      { name: '429', color: color('c-429'), values: bad[1], total: f.short(total('errors_429')) },
      { name: '5xx', color: color('c-5xx'), values: bad[2], total: f.short(total('errors_5xx')) },
      { name: t('canceled'), color: color('c-canceled'), values: bad[3], total: f.short(total('canceled')) },
    ]
    const failing: Series[] = (['4xx', '429', '5xx'] as const).map(c => ({
      name: c, color: color('c-' + c), values: rate('errors_' + c), total: f.percent(share(total('errors_' + c) ?? 0, total('requests') ?? 0)),
    }))
    const latency: Series[] = (['p50', 'p95', 'p99'] as const).map(q => ({
      name: q.toUpperCase(), color: color('c-' + q), values: col('latency_' + q, null), total: f.ms(total('latency_' + q)),
    }))
    const tokens: Series[] = [
      { name: t('input'), color: color('c-in'), values: col('input_tokens'), total: f.short(total('input_tokens')) },
      { name: t('output'), color: color('c-out'), values: col('output_tokens'), total: f.short(total('output_tokens')) },
    ]
    return { times, requests, failing, latency, tokens }
  }, [range, all, f, zone])
  const money = useMemo(() => {
    const times = ticks({ ...range, step: costStep }, zone, cost.series.flatMap(s => s.points.map(p => p[0])))
    const paid = cost.series.filter(s => s.group.model !== '' && (s.total[0] ?? 0) > 0)
    const series: Series[] = paid.slice(0, models).map((s, i) => ({ name: s.group.model, color: `var(--m${i})`, values: column(s.points, times, 0, 0), total: f.usd(s.total[0]) }))
    const rest = paid.slice(models)
    if (rest.length > 0) {
      const columns = rest.map(s => column(s.points, times, 0, 0))
      series.push({ name: t('others', { n: rest.length }), color: 'var(--m-rest)', values: times.map((_, i) => columns.reduce((sum, c) => sum + (c[i] ?? 0), 0)), total: f.usd(rest.reduce((s, r) => s + (r.total[0] ?? 0), 0)) })
    }
    return { times, series }
  }, [range, cost, costStep, f, zone])
  const none = !all.total[0]
  const every = t('per', { step: stepWord(t, range.step) })
  const common = { range, times: view.times, step: range.step, empty: none }
  return (
    <div class="grid">
      <Chart {...common} id="chart-requests" title={t('requests')} note={every} kind="bars" series={view.requests} format={n => f.short(n)} />
      <Chart {...common} id="chart-errors" title={t('error_rate')} note={t('of_requests')} kind="lines" series={view.failing} format={n => f.percent(n)} least={0.01} />
      <Chart {...common} id="chart-latency" title={t('latency')} note={t('latency_note')} kind="lines" series={view.latency} format={n => f.ms(n)} />
      <Chart {...common} id="chart-tokens" title={t('tokens')} note={every} kind="bars" series={view.tokens} format={n => f.short(n)} />
      <Chart range={range} times={money.times} step={costStep} empty={money.series.length === 0} id="chart-cost" title={t('cost_by_model')} kind="bars" series={money.series}
        note={<>{t('usd_per', { step: stepWord(t, costStep) })}{!!all.total[at('unpriced')] && <button class="link" onClick={() => go({}, '/requests')}> · {t('unpriced_n', { n: f.int(all.total[at('unpriced')]) })}</button>}</>}
        format={n => f.usd(n)} axis={n => f.dollars(n)} />
      <Ranking cost={cost} total={all.total[7] ?? 0} />
    </div>
  )
}

const stepWord = (t: (w: Word, v?: Record<string, number>) => string, s: number) =>
  s % 86400 === 0 ? t('step_day') : s === 3600 ? t('step_hour') : s === 60 ? t('step_minute') : t('step_minutes', { n: s / 60 })

// Ranking is where the money goes, model by model.
function Ranking({ cost, total }: { cost: Result; total: number }) {
  const { t, f } = useLocal()
  const rows = cost.series.filter(s => s.group.model !== '')
  return (
    <section class="card ranking" aria-label={t('ranking')}>
      <header><h2>{t('models')}</h2><span class="note">{t('models_note')}</span></header>
      <div class="scroll" tabIndex={0}>
        <table>
          <thead><tr><th scope="col">{t('model')}</th><th scope="col" class="n">{t('requests')}</th><th scope="col" class="n">{t('cost')}</th><th scope="col" class="n">{t('share')}</th></tr></thead>
          <tbody>
            {rows.map(s => {
              const unknown = (s.total[2] ?? 0) > 0 && !s.total[0]
              return (
                <tr key={s.group.model}>
                  <th scope="row"><button class="link" onClick={() => go({ model: s.group.model })}>{s.group.model}</button></th>
                  <td class="n">{f.int(s.total[1])}</td>
                  <td class="n" title={unknown ? t('unpriced') : f.exact(s.total[0])}>{unknown ? t('unpriced') : f.usd(s.total[0])}</td>
                  <td class="n share"><span><i style={{ width: 100 * (share(s.total[0] ?? 0, total) ?? 0) + '%' }} /></span>{f.percent(share(s.total[0] ?? 0, total))}</td>
                </tr>
              )
            })}
          </tbody>
        </table>
      </div>
    </section>
  )
}
