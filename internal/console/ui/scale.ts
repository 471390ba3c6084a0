// Scales whose lines lie on round numbers.

export type Unit = 'count' | 'ms' | 'share' | 'usd'

// beyond 10 s, durations are round in the clock's way.
const clock = [20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200].map(s => s * 1000)

// lines are the values that a scale from 0 to max shows, at most about n of
// them; the last is its top.
export function lines(max: number, unit: Unit, n: number): number[] {
  const least = max / n
  let step = 10 ** Math.floor(Math.log10(least))
  step = [1, 2, 5, 10].map(x => x * step).find(s => s >= least * 0.999999)!
  if (unit === 'count') step = Math.max(1, step)
  if (unit === 'ms' && step > 10_000) step = clock.find(s => s >= least) ?? step
  const top = Math.ceil(max / step - 1e-9)
  return Array.from({ length: top + 1 }, (_, i) => i * step)
}
