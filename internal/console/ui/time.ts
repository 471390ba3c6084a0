// Ranges, steps and the wall clock of a time zone. Times are Unix seconds.

export const presets = ['15m', '1h', '6h', '24h', '7d', '30d', '90d'] as const
const unit: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86400 }
export const seconds = (s: string) => parseInt(s) * unit[s.at(-1)!]

export interface Range { from: number; to: number; step: number; live: boolean; name: string }

export const steps = ['1m', '5m', '15m', '1h', '1d'] as const
const mostSteps = 11_000 // a week by minute has 10,080

// fits reports whether a range can be cut into steps of a size.
export const fits = (length: number, step: string) => length / seconds(step) <= mostSteps

function autoStep(length: number): string {
  if (length <= 2 * 3600) return '1m'
  if (length <= 12 * 3600) return '5m'
  if (length <= 36 * 3600) return '15m'
  if (length <= 8 * 86400) return '1h'
  return '1d'
}

export const stepName = (s: number) => s % 86400 === 0 ? s / 86400 + 'd' : s % 3600 === 0 ? s / 3600 + 'h' : s / 60 + 'm'

// rangeOf reads the range of the address. One that ends now begins with a whole
// step, so that its first bar is not a stump.
export function rangeOf(p: URLSearchParams, now: number, zone: string): Range {
  const from = Date.parse(p.get('from') ?? '') / 1000, to = Date.parse(p.get('to') ?? '') / 1000
  const fixed = from < to
  const name = fixed ? '' : presets.find(n => n === p.get('range')) ?? '1h'
  const length = fixed ? to - from : seconds(name)
  const asked = steps.find(s => s === p.get('step'))
  const step = seconds(asked && fits(length, asked) ? asked : autoStep(length))
  if (fixed) return { from, to, step, live: false, name }
  return { from: floor(now - length, step, zone), to: now, step, live: true, name }
}

const formats = new Map<string, Intl.DateTimeFormat>()

// offset is what a zone's wall clock is ahead of UTC at t, in seconds.
export function offset(t: number, zone: string): number {
  if (zone === 'UTC') return 0
  let f = formats.get(zone)
  if (!f) {
    f = new Intl.DateTimeFormat('en-US', { timeZone: zone, hourCycle: 'h23', year: 'numeric', month: 'numeric', day: 'numeric', hour: 'numeric', minute: 'numeric', second: 'numeric' })
    formats.set(zone, f)
  }
  const p: Record<string, number> = {}
  for (const { type, value } of f.formatToParts(t * 1000)) p[type] = +value
  return Date.UTC(p.year, p.month - 1, p.day, p.hour, p.minute, p.second) / 1000 - Math.floor(t)
}

// floor is the start of the step that holds t, by the wall clock of a zone.
export function floor(t: number, step: number, zone: string): number {
  const off = offset(t, zone)
  const start = Math.floor((t + off) / step) * step - off
  return start + off - offset(start, zone)
}

// after is the start of the step that follows the one at t.
export function after(t: number, step: number, zone: string): number {
  const slack = step >= 86400 ? 2 * 3600 : 0 // a day may have 25 hours
  return floor(t + step + slack, step, zone)
}

// ticks are the starts of all steps of a range.
export function ticks(r: Range, zone: string, known: Iterable<number>): number[] {
  const all = new Set<number>(known)
  for (let t = floor(r.from, r.step, zone); t < r.to; t = after(t, r.step, zone)) all.add(t)
  return [...all].sort((a, b) => a - b)
}

export const iso = (t: number) => new Date(t * 1000).toISOString()

// wall writes t as <input type="datetime-local"> wants it; unwall reads it.
export const wall = (t: number, zone: string) => new Date((t + offset(t, zone)) * 1000).toISOString().slice(0, 16)
export function unwall(s: string, zone: string): number {
  const t = Date.parse(s + 'Z') / 1000
  return t - offset(t - offset(t, zone), zone)
}
