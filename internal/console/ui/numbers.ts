import type { Result, Values } from './api'
import type { Series } from './chart'
import type { T } from './i18n'
import type { Range } from './time'

// The measures of the whole range. outcomes relies on the first five.
export const measures = ['requests', 'errors_4xx', 'errors_429', 'errors_5xx', 'canceled', 'input_tokens', 'output_tokens', 'cost_nano_usd', 'unpriced',
  'latency_p50', 'latency_p95', 'latency_p99', 'ttft_p50', 'ttft_p95', 'ttft_p99', 'cache_read_tokens'] as const
export type Measure = typeof measures[number]
export const at = (name: Measure) => measures.indexOf(name)

// The measures of a slice. Cost is the first, so that the API orders by it.
export const sliced = ['cost_nano_usd', 'requests', 'errors_4xx', 'errors_429', 'errors_5xx', 'latency_p50', 'latency_p95', 'ttft_p95', 'input_tokens', 'output_tokens', 'unpriced', 'output_tokens_per_second']
export const inSlice = Object.fromEntries(sliced.map((m, i) => [m, i]))

// Slices are what a dimension divides the range into, now and before.
export interface Slices { by: string; now: Result; before: Result }

// Numbers are all that the overview shows, of one range and read at once.
export interface Numbers { range: Range; all: Result; cost: Result; costStep: number; slices: Slices; causes: Result }

export const bad = ['4xx', '429', '5xx']

export const share = (part: number | null, whole: number | null) => whole ? (part ?? 0) / whole : null

// failures are all errors of a row of measures that begins like measures, or of
// one of a slice.
export const failures = (v: Values) => (v[1] ?? 0) + (v[2] ?? 0) + (v[3] ?? 0)
export const failuresIn = (v: Values) => (v[2] ?? 0) + (v[3] ?? 0) + (v[4] ?? 0)

// column reads a measure at each time; none where there was no Call.
export function column(points: [number, ...Values][] | undefined, times: number[], i: number, none: number | null) {
  const by = new Map((points ?? []).map(p => [p[0], p[i + 1] as number | null]))
  return times.map(x => by.get(x) ?? none)
}

// outcomes are the Calls of each step by how they ended.
export function outcomes(all: Result, times: number[], t: T, write: (n: number | null) => string, pick: (code: string) => void): Series[] {
  const points = all.series[0]?.points
  const [n, ...others] = [0, 1, 2, 3, 4].map(i => column(points, times, i, 0))
  const names = [['2xx', t('ok')], ['4xx', '4xx'], ['429', '429'], ['5xx', '5xx'], ['canceled', t('canceled')]]
  return names.map(([code, name], i) => ({
    name, color: `var(--c-${code})`, pick: () => pick(code),
    values: i ? others[i - 1] : n.map((x, j) => others.reduce((left, o) => left - (o[j] ?? 0), x ?? 0)),
    total: write(i ? all.total[i] : (all.total[0] ?? 0) - failures(all.total) - (all.total[4] ?? 0)),
  }))
}
