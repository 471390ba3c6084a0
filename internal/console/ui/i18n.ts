import en from './lang/en.json'
import ko from './lang/ko.json'
import { useRoute } from './url'

export type Lang = 'en' | 'ko'
export type Word = keyof typeof en
const words: Record<Lang, Record<Word, string>> = { en, ko }

export function langOf(p: URLSearchParams): Lang {
  const asked = p.get('lang') ?? localStorage.getItem('lang') ?? navigator.language
  return asked.startsWith('ko') ? 'ko' : 'en'
}

export type T = (w: Word, values?: Record<string, string | number>) => string

// text finds a word and fills in its {names}.
export const text = (lang: Lang): T => (w, values = {}) =>
  (words[lang][w] ?? w).replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ''))

export interface Local { lang: Lang; t: T; f: Format; zone: string }

// Format writes numbers the way the language does.
export class Format {
  private cache = new Map<string, Intl.NumberFormat>()
  constructor(public lang: Lang, public zone: string) {}

  private number(n: number, o: Intl.NumberFormatOptions): string {
    const k = JSON.stringify(o)
    let f = this.cache.get(k)
    if (!f) this.cache.set(k, f = new Intl.NumberFormat(this.lang, o))
    return f.format(n)
  }

  int(n: number | null) { return n === null ? '–' : this.number(n, { maximumFractionDigits: 0 }) }

  // short writes 1843000 as 1.84M, in Korean 184.3만.
  short(n: number | null) {
    if (n === null) return '–'
    return Math.abs(n) < 10_000 ? this.number(n, { maximumFractionDigits: Math.abs(n) < 10 ? 2 : 0 }) : this.number(n, { notation: 'compact', maximumSignificantDigits: 4, maximumFractionDigits: 2, roundingPriority: 'lessPrecision' } as Intl.NumberFormatOptions)
  }

  ms(n: number | null) {
    if (n === null) return '–'
    if (n >= 60_000) return this.number(n / 60_000, { maximumFractionDigits: 1 }) + (this.lang === 'ko' ? '분' : ' min')
    if (n >= 1000) return this.number(n / 1000, { minimumFractionDigits: 2, maximumFractionDigits: 2 }) + (this.lang === 'ko' ? '초' : ' s')
    return this.number(n, { maximumFractionDigits: n < 10 ? 2 : 0 }) + ' ms'
  }

  percent(x: number | null) {
    if (x === null) return '–'
    return this.number(x, { style: 'percent', maximumFractionDigits: x !== 0 && Math.abs(x) < 0.1 ? 2 : 1 })
  }

  // usd writes nano-dollars with as many digits as they need to be told apart.
  usd(nano: number | null) {
    if (nano === null) return '–'
    const d = nano / 1e9, a = Math.abs(d)
    if (a >= 10_000) return '$' + this.short(d)
    const digits = a === 0 || a >= 1 ? 2 : a >= 0.01 ? 4 : a >= 0.0001 ? 6 : 9
    return '$' + this.number(d, { minimumFractionDigits: Math.min(digits, 6), maximumFractionDigits: digits })
  }

  // dollars is for axes.
  dollars(nano: number) { return '$' + this.number(nano / 1e9, { notation: 'compact', maximumSignificantDigits: 3 }) }

  // exact writes nano-dollars to the last digit.
  exact(nano: number | null) { return nano === null ? '–' : '$' + (nano / 1e9).toFixed(9) }

  private date(t: number, o: Intl.DateTimeFormatOptions) {
    const k = JSON.stringify(o)
    let f = dates.get(this.lang + this.zone + k)
    if (!f) dates.set(this.lang + this.zone + k, f = new Intl.DateTimeFormat(this.lang, { ...o, timeZone: this.zone, hourCycle: 'h23' }))
    return f.format(t * 1000)
  }

  clock(t: number) { return this.date(t, { hour: '2-digit', minute: '2-digit' }) }
  second(t: number) { return this.date(t, { hour: '2-digit', minute: '2-digit', second: '2-digit', fractionalSecondDigits: 3 } as Intl.DateTimeFormatOptions) }
  day(t: number) { return this.date(t, { month: 'short', day: 'numeric' }) }
  moment(t: number) { return this.date(t, { year: 'numeric', month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit' }) }
  full(t: number) { return this.date(t, { year: 'numeric', month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', second: '2-digit', fractionalSecondDigits: 3, timeZoneName: 'short' } as Intl.DateTimeFormatOptions) }
}

const dates = new Map<string, Intl.DateTimeFormat>()

const made = new Map<string, Local>()
let serverZone = 'UTC'
export const setServerZone = (z: string) => { serverZone = z === 'Local' ? Intl.DateTimeFormat().resolvedOptions().timeZone : z }
export const zones = () => [...new Set([serverZone, Intl.DateTimeFormat().resolvedOptions().timeZone])]

// useLocal is the language and the time zone of the page.
export function useLocal(): Local {
  const { params } = useRoute()
  const lang = langOf(params), asked = params.get('tz')
  const zone = asked && valid(asked) ? asked : serverZone
  const k = lang + zone
  let l = made.get(k)
  if (!l) made.set(k, l = { lang, zone, t: text(lang), f: new Format(lang, zone) })
  return l
}

function valid(zone: string): boolean {
  try { return !!new Intl.DateTimeFormat('en', { timeZone: zone }) } catch { return false }
}
