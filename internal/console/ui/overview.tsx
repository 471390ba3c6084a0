import { useMemo } from 'preact/hooks'
import { query, type Me } from './api'
import { Breakdown } from './breakdown'
import { Causes } from './causes'
import { Chart, type Series } from './chart'
import { useLoad } from './data'
import { FilterBar } from './filters'
import { Headline } from './headline'
import { days, useLocal, type T } from './i18n'
import { at, bad, column, inSlice, measures, outcomes, share, sliced, type Measure, type Numbers } from './numbers'
import { modelColors, mostColors, otherColor } from './palette'
import { iso, rangeOf, stepName, ticks } from './time'
import { filterOf, go, only, useRoute } from './url'
import { Empty, Problem } from './states'

export function Overview({ me }: { me: Me }) {
  const { params } = useRoute()
  const { t } = useLocal()
  const filter = filterOf(params), by = params.get('by') ?? 'model'
  const key = JSON.stringify([params.get('range'), params.get('from'), params.get('to'), params.get('step'), filter, by])
  const live = rangeOf(params, Date.now() / 1000, days()).live
  const { value, error, loading, reload } = useLoad<Numbers>(key, async signal => {
    const range = rangeOf(params, Date.now() / 1000, days())
    const from = iso(range.from), to = iso(range.to), step = stepName(range.step)
    const costStep = range.to - range.from > 2 * 86400 ? 86400 : range.step
    const failed = bad.filter(c => filter.code?.includes(c) ?? true)
    const ask = (o: object) => query({ from, to, filter, measures: ['requests'], ...o }, signal)
    const [all, before, cost, other, causes] = await Promise.all([
      ask({ step, measures: [...measures] }),
      ask({ from: iso(2 * range.from - range.to), to: from, group_by: [by], measures: sliced }),
      ask({ step: stepName(costStep), group_by: ['model'], measures: by === 'model' ? sliced : ['cost_nano_usd'] }),
      by === 'model' ? undefined : ask({ group_by: [by], measures: sliced }),
      ask({ group_by: ['code', 'error_class', 'model'], filter: { ...filter, code: failed.length ? failed : ['none'] } }),
    ])
    return { range, all, cost, costStep, slices: { by, now: other ?? cost, before }, causes }
  }, live)

  const none = value && !value.all.total[0]
  const blank = none && live && Object.keys(filter).length === 0 && !value.slices.before.total[inSlice.requests]
  return (
    <main class="page" id="main" tabIndex={-1}>
      <h1 class="unseen">{t('overview')}</h1>
      <FilterBar me={me} dims={['model', 'provider', 'key']} />
      {error && <Problem error={error} retry={reload} stale={!!value} />}
      {!value && !error && <Skeleton />}
      {value && (
        <div class={loading ? 'stale' : ''} data-from={iso(value.range.from)} data-to={iso(value.range.to)} id="numbers" aria-busy={loading}>
          <Headline numbers={value} live={live} admin={me.admin} />
          {blank ? <Empty me={me} /> : (
            <>
              <Charts numbers={value} />
              <Breakdown me={me} slices={value.slices} range={value.range} />
            </>
          )}
        </div>
      )}
    </main>
  )
}

function Skeleton() {
  const { t } = useLocal()
  const titles = [t('requests'), t('error_rate'), t('latency'), t('tokens'), t('cost_by_model'), t('causes')]
  return (
    <div class="skeleton" role="status" aria-label={t('loading')}>
      <div class="headline">{[0, 1, 2, 3, 4].map(i => <div key={i}><u /><u class="wide" /></div>)}</div>
      <div class="grid">{titles.map(x => <div key={x} class="card chart"><header><h2>{x}</h2><span class="note">{t('loading')}</span></header><div class="plot" /><div class="legend" /></div>)}</div>
    </div>
  )
}

function Charts({ numbers: { range, all, cost, costStep, causes } }: { numbers: Numbers }) {
  const { params } = useRoute()
  const { t, f } = useLocal()
  const zone = days(), first = params.has('first')
  const points = all.series[0]?.points
  const view = useMemo(() => {
    const times = ticks(range, zone, (points ?? []).map(p => p[0]))
    const col = (name: Measure, none: number | null = 0) => column(points, times, at(name), none)
    const total = (name: Measure) => all.total[at(name)]
    const pick = (code: string) => go({ ...only('code', code), table: null, by: null, first: null }, '/requests')
    const n = col('requests')
    const failing: Series[] = (['4xx', '429', '5xx'] as const).map(c => {
      const m = `errors_${c}` as const
      return { name: c, color: `var(--c-${c})`, pick: () => pick(c), values: col(m).map((x, i) => n[i] ? (x ?? 0) / n[i]! : null), total: f.percent(share(total(m), total('requests'))) }
    })
    const latency: Series[] = (['p50', 'p95', 'p99'] as const).map(q => {
      const m = `${first ? 'ttft' : 'latency'}_${q}` as const
      return { name: q.toUpperCase(), color: `var(--c-${q})`, values: col(m, null), total: f.ms(total(m)) }
    })
    const tokens: Series[] = [
      { name: t('input'), color: 'var(--c-in)', values: col('input_tokens'), total: f.short(total('input_tokens')) },
      { name: t('output'), color: 'var(--c-out)', values: col('output_tokens'), total: f.short(total('output_tokens')) },
    ]
    return { times, requests: outcomes(all, times, t, n => n !== null && n < 10_000 ? f.int(n) : f.rough(n), pick), failing, latency, tokens }
  }, [range, all, f, zone, first])
  const money = useMemo(() => {
    const i = 0 // cost_nano_usd is the first measure
    const times = ticks({ ...range, step: costStep }, zone, cost.series.flatMap(s => s.points.map(p => p[0])))
    const paid = cost.series.filter(s => s.group.model !== '' && (s.total[i] ?? 0) > 0).sort((a, b) => b.total[i]! - a.total[i]!)
    const top = paid.slice(0, mostColors), rest = paid.slice(mostColors)
    const colors = modelColors(top.map(s => s.group.model))
    const series: Series[] = top.map((s, j) => ({
      name: s.group.model, color: colors[j], values: column(s.points, times, i, 0), total: f.usd(s.total[i]), pick: () => go(only('model', s.group.model)),
    }))
    if (rest.length > 0) {
      const columns = rest.map(s => column(s.points, times, i, 0))
      series.push({ name: t('others', { n: rest.length }), color: otherColor, values: times.map((_, j) => columns.reduce((sum, c) => sum + (c[j] ?? 0), 0)), total: f.usd(rest.reduce((s, r) => s + r.total[i]!, 0)) })
    }
    return { times, series }
  }, [range, cost, costStep, f, zone])
  const every = stepWord(t, 'per', range.step)
  const unpriced = all.total[at('unpriced')]
  const common = { range, zone, times: view.times, step: range.step, empty: !all.total[0] }
  return (
    <div class="grid">
      <Chart {...common} id="chart-requests" title={t('requests')} note={every} kind="bars" series={view.requests} unit="count" format={n => f.int(n)} axis={n => f.rough(n)} least={4} />
      <Chart {...common} id="chart-errors" title={t('error_rate')} note={t('of_requests')} kind="bars" series={view.failing} unit="share" format={n => f.percent(n)} axis={n => f.percent(n)} least={0.01} />
      <Chart {...common} id="chart-latency" title={t('latency')} kind="lines" series={view.latency} unit="ms" format={n => f.ms(n)} axis={n => f.ms(n, true)} least={10}
        tools={
          <span class="segments small" role="group" aria-label={t('latency')}>
            <button aria-pressed={!first} onClick={() => go({ first: null }, undefined, true)}>{t('last_byte')}</button>
            <button aria-pressed={first} title={t('ttft_note')} onClick={() => go({ first: '1' }, undefined, true)}>{t('ttft')}</button>
          </span>
        } />
      <Chart {...common} id="chart-tokens" title={t('tokens')} note={every} kind="bars" series={view.tokens} unit="count" format={n => f.int(n)} axis={n => f.rough(n)} least={4} />
      <Chart {...common} times={money.times} step={costStep} empty={money.series.length === 0} id="chart-cost" title={t('cost_by_model')} kind="bars" series={money.series} unit="usd" format={n => f.usd(n)} axis={(n, step) => f.dollars(n, step)} least={1e7}
        note={<>{stepWord(t, 'usd_per', costStep)}{!!unpriced && ' · ' + t('unpriced_n', { n: f.int(unpriced) })}</>} />
      <Causes causes={causes} requests={all.total[0] ?? 0} />
    </div>
  )
}

const stepWord = (t: T, word: 'per' | 'usd_per', s: number) =>
  t(word, { step: s % 86400 === 0 ? t('step_day') : s === 3600 ? t('step_hour') : s === 60 ? t('step_minute') : t('step_minutes', { n: s / 60 }) })
