import { useCallback, useEffect, useState } from 'preact/hooks'
import type { ComponentChildren } from 'preact'
import { useLocal, type Word } from './i18n'
import { latestEvent, perSecond, useEvents, useLink } from './live'
import { at, failures, failuresIn, inSlice, share, type Measure, type Numbers } from './numbers'

// Headline answers the five questions in a line.
export function Headline({ numbers: { all, slices, range }, live, admin }: { numbers: Numbers; live: boolean; admin: boolean }) {
  const { t, f } = useLocal()
  const v = all.total, get = (m: Measure) => v[at(m)], before = slices.before.total, was = (m: string) => before[inSlice[m]] ?? null
  const n = get('requests') ?? 0, failed = failures(v), rate = share(failed, n)
  const then = share(failuresIn(before), was('requests'))
  const tokens = (get('input_tokens') ?? 0) + (get('output_tokens') ?? 0)
  const length = range.to - range.from
  const [pace, seconds] = length <= 6.5 * 3600 ? ['per_minute', 60] as const : length <= 3 * 86400 ? ['per_hour', 3600] as const : ['per_day', 86400] as const
  const cost = get('cost_nano_usd'), unpriced = get('unpriced')
  const cached = share(get('cache_read_tokens'), get('input_tokens'))
  return (
    <dl class="headline">
      <Figure word="requests" value={f.short(n)} raw={n} exact={f.int(n)} change={<Change now={n} then={was('requests')} />}>
        <span>{t(pace, { n: f.rough(n / length * seconds) })}</span>
      </Figure>
      <Figure word="error_rate" value={f.percent(rate)} raw={rate} exact={t('errors_of', { failed: f.int(failed), n: f.int(n) })} tone={rate !== null && rate >= 0.05 ? 'bad' : ''} change={<Points now={rate} then={then} />}>
        {([['4xx', 'errors_4xx'], ['429', 'errors_429'], ['5xx', 'errors_5xx']] as const).map(([c, m]) => <span key={c}><i class={'dot c-' + c} />{c} {f.short(get(m))}</span>)}
      </Figure>
      <Figure word="p95" value={f.ms(get('latency_p95'))} raw={get('latency_p95')} change={<Change now={get('latency_p95')} then={was('latency_p95')} worse={1} />}>
        <span>P50 {f.ms(get('latency_p50'))}</span><span>P99 {f.ms(get('latency_p99'))}</span>
      </Figure>
      <Figure word="tokens" value={f.short(tokens)} raw={tokens} exact={f.int(tokens)} change={<Change now={tokens} then={(was('input_tokens') ?? 0) + (was('output_tokens') ?? 0)} />}>
        <span>{t('in_out', { a: f.rough(get('input_tokens'), 2), b: f.rough(get('output_tokens'), 2) })}</span>{!!cached && <span>{t('cached', { x: f.percent(Math.round(cached * 100) / 100) })}</span>}
      </Figure>
      <Figure word="cost" value={f.usd(cost)} raw={cost} exact={f.exact(cost)} change={<Change now={cost} then={was('cost_nano_usd')} />}>
        {!!cost && Math.abs(length / 86400 - 1) > 0.1 && <span title={t('pace_hint')}>{t('pace', { x: f.usd(cost / length * 86400) })}</span>}
        {!!unpriced && <span class="warn">{t('unpriced_n', { n: f.short(unpriced) })}</span>}
      </Figure>
      {admin && <InFlight live={live} />}
    </dl>
  )
}

interface FigureProps { word: Word; value: string; raw: number | null; exact?: string; tone?: string; change?: ComponentChildren; children: ComponentChildren }

function Figure({ word, value, raw, exact, tone = '', change, children }: FigureProps) {
  const { t } = useLocal()
  return (
    <div>
      <dt>{t(word)}</dt>
      <dd class={'big ' + tone}><span title={exact} data-number={word} data-value={raw ?? ''}>{value}</span>{change}</dd>
      <dd class="sub">{children}</dd>
    </div>
  )
}

// InFlight is the moment, whatever the range.
function InFlight({ live }: { live: boolean }) {
  const { t, f } = useLocal()
  const link = useLink()
  const [now, set] = useState(latestEvent()?.in_flight ?? null)
  const [, tick] = useState(0)
  useEvents(useCallback(e => set(e.in_flight), []))
  useEffect(() => {
    const second = setInterval(() => tick(n => n + 1), 1000)
    return () => clearInterval(second)
  }, [])
  const on = link === 'open', rate = perSecond()
  return (
    <div>
      <dt>{t('in_flight')}</dt>
      <dd class="big"><span data-number="in_flight" data-value={on ? now ?? '' : ''}>{on ? f.int(now) : '–'}</span></dd>
      <dd class="sub"><span class={on && live ? 'live on' : 'live'}>{!on ? t('not_live') : rate === null ? t('now') : t('per_second', { n: f.short(Math.round(rate * 10) / 10) })}</span></dd>
    </div>
  )
}

// Change compares with the range before, of the same length.
export function Change({ now, then, worse }: { now: number | null; then: number | null; worse?: 1 | -1 }) {
  const { t, f } = useLocal()
  if (!then || now === null) return null
  const by = now / then - 1
  const tone = Math.abs(by) < 0.1 || !worse ? '' : by * worse > 0 ? ' bad' : ' good'
  return <span class={'change' + tone} title={t('change_hint')}>{Math.abs(by) < 0.0005 ? '=' : by > 0 ? '▲' : '▼'} {by > 9.99 ? '×' + f.short(Math.round(now / then)) : f.percent(Math.round(Math.abs(by) * (by > 1 ? 100 : 1000)) / (by > 1 ? 100 : 1000))}</span>
}

// Points compares two shares, in percentage points.
function Points({ now, then }: { now: number | null; then: number | null }) {
  const { t, f } = useLocal()
  if (now === null || then === null) return null
  const by = Math.round((now - then) * 1e4) / 100
  if (!by) return null
  return <span class={'change' + (by > 0.5 ? ' bad' : by < -0.5 ? ' good' : '')} title={t('change_hint')}>{by > 0 ? '▲' : '▼'} {t('points', { n: f.short(Math.abs(by)) })}</span>
}
