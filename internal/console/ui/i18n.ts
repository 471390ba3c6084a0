import type en from './lang/en.json'
import { refresh, useRoute } from './url'

export type Lang = 'en' | 'ko'
export type Word = keyof typeof en
export type T = (w: Word, values?: Record<string, string | number>) => string
export interface Local { lang: Lang; t: T; f: Format; zone: string }

export function langOf(p: URLSearchParams): Lang {
  const asked = p.get('lang') ?? localStorage.getItem('lang') ?? navigator.language
  return asked.startsWith('ko') ? 'ko' : 'en'
}

const words: Partial<Record<Lang, Record<Word, string>>> = {}

// loadWords fetches the texts of a language, once.
export async function loadWords(lang: Lang) {
  if (words[lang]) return
  const res = await fetch(`/${lang}.json`)
  if (!res.ok) throw new Error(`/${lang}.json: ${res.status}`)
  words[lang] = await res.json()
  refresh()
}

// text finds a word and fills in its {names}. A language that is still on its
// way is stood in for by the other.
const text = (lang: Lang): T => (w, values = {}) =>
  ((words[lang] ?? words.en ?? words.ko)?.[w] ?? w).replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ''))

// Format writes numbers and times the way the language does.
export class Format {
  private numbers = new Map<string, Intl.NumberFormat>()
  private spans?: Intl.RelativeTimeFormat
  private dates = new Map<string, Intl.DateTimeFormat>()
  constructor(public lang: Lang, public zone: string, private t: T) {}

  private number(n: number, o: Intl.NumberFormatOptions): string {
    const k = JSON.stringify(o)
    let f = this.numbers.get(k)
    if (!f) this.numbers.set(k, f = new Intl.NumberFormat(this.lang, o))
    return f.format(n)
  }

  int(n: number | null) { return n === null ? '–' : this.number(n, { maximumFractionDigits: 0 }) }

  // short writes 1843000 as 1.84M, in Korean 184.3만.
  short(n: number | null) {
    if (n === null) return '–'
    return Math.abs(n) < 10_000 ? this.number(n, { maximumFractionDigits: Math.abs(n) < 10 ? 2 : 0 }) : this.number(n, { notation: 'compact', maximumSignificantDigits: 4, maximumFractionDigits: 2, roundingPriority: 'lessPrecision' } as Intl.NumberFormatOptions)
  }

  // rough writes it with a few digits.
  rough(n: number | null, digits = 3) { return n === null ? '–' : this.number(n, { notation: 'compact', maximumSignificantDigits: digits }) }

  // ms writes a duration; whole leaves out trailing zeros, for axes.
  ms(n: number | null, whole = false) {
    if (n === null) return '–'
    if (n === 0 && whole) return '0'
    const digits = (max: number) => ({ minimumFractionDigits: whole ? 0 : max, maximumFractionDigits: max })
    if (n >= 120_000) return this.t('unit_min', { n: this.number(n / 60_000, digits(1)) })
    if (n >= 1000) return this.t('unit_s', { n: this.number(n / 1000, digits(n < 10_000 ? 2 : 1)) })
    return this.t('unit_ms', { n: this.number(n, { maximumFractionDigits: n < 1 ? 2 : n < 10 ? 1 : 0 }) })
  }

  percent(x: number | null) {
    if (x === null) return '–'
    return this.number(x, { style: 'percent', maximumFractionDigits: x !== 0 && Math.abs(x) < 0.1 ? 2 : 1 })
  }

  // usd writes nano-dollars to the cent, and smaller sums so that they can be
  // told apart.
  usd(nano: number | null) {
    if (nano === null) return '–'
    const d = nano / 1e9, a = Math.abs(d)
    if (a >= 10_000) return '$' + this.short(d)
    if (a === 0 || a >= 0.1) return '$' + this.number(d, { minimumFractionDigits: 2, maximumFractionDigits: 2 })
    return '$' + this.number(d, { maximumSignificantDigits: 2, minimumFractionDigits: 2, maximumFractionDigits: 9, roundingPriority: 'lessPrecision' } as Intl.NumberFormatOptions)
  }

  // micro writes the cost of one Call: six decimals, so that a column lines up.
  micro(nano: number) {
    const d = nano / 1e9
    if (nano > 0 && nano < 1000) return '<$0.000001'
    return '$' + this.number(d, { minimumFractionDigits: 6, maximumFractionDigits: 6 })
  }

  // dollars is for axes, whose lines are step apart.
  dollars(nano: number, step: number) {
    const d = nano / 1e9
    return '$' + (d && step < 1e9 ? this.number(d, { minimumFractionDigits: 2, maximumFractionDigits: 9 }) : this.number(d, { notation: 'compact', maximumSignificantDigits: 4 }))
  }

  // exact writes nano-dollars to the last digit.
  exact(nano: number | null) {
    if (nano === null) return '–'
    const s = String(Math.abs(nano)).padStart(10, '0')
    return (nano < 0 ? '-' : '') + '$' + s.slice(0, -9) + '.' + s.slice(-9)
  }

  private date(t: number, o: Intl.DateTimeFormatOptions) {
    const k = JSON.stringify(o)
    let f = this.dates.get(k)
    if (!f) this.dates.set(k, f = new Intl.DateTimeFormat(this.lang, { timeZone: this.zone, hourCycle: 'h23', ...o }))
    return f.format(t * 1000)
  }

  clock(t: number) { return this.date(t, { hour: '2-digit', minute: '2-digit' }) }
  second(t: number) { return this.date(t, { hour: '2-digit', minute: '2-digit', second: '2-digit', fractionalSecondDigits: 3 } as Intl.DateTimeFormatOptions) }
  // day names the day that begins at t on the clock of a zone.
  day(t: number, zone = this.zone) { return this.date(t, { month: 'short', day: 'numeric', timeZone: zone }) }
  weekday(t: number, zone = this.zone) { return this.date(t, { month: 'short', day: 'numeric', weekday: 'short', timeZone: zone }) }
  // daily writes the day of a time of the API, with its year.
  daily(s: string) { return this.date(Date.parse(s) / 1000, { year: 'numeric', month: 'short', day: 'numeric' }) }
  moment(t: number) { return this.date(t, { month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit' }) }
  full(t: number) { return this.date(t, { year: 'numeric', month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', second: '2-digit', fractionalSecondDigits: 3, timeZoneName: 'short' } as Intl.DateTimeFormatOptions) }
  // ago says how far a time is from now: in 3 minutes, 2 hours ago.
  ago(at: number, now: number) {
    const s = at - now, far = Math.abs(s)
    const [unit, length] = far < 90 ? ['second', 1] as const : far < 5400 ? ['minute', 60] as const : far < 129600 ? ['hour', 3600] as const : far < 5184000 ? ['day', 86400] as const : far < 63072000 ? ['month', 2629800] as const : ['year', 31557600] as const
    return (this.spans ??= new Intl.RelativeTimeFormat(this.lang)).format(Math.round(s / length), unit)
  }
  // span names a range of time as shortly as it can.
  span(from: number, to: number) {
    const same = this.day(from) === this.day(to) && to - from < 86400
    return to - from > 3 * 86400 ? `${this.day(from)} – ${this.day(to)}` : `${this.moment(from)} – ${same ? this.clock(to) : this.moment(to)}`
  }
}

const made = new Map<string, Local>()
const here = Intl.DateTimeFormat().resolvedOptions().timeZone
let serverZone = 'UTC'
export const setServerZone = (z: string) => { serverZone = valid(z) ? z : here }
export const zones = () => [...new Set([serverZone, here])]

// useLocal is the language and the time zone of the page.
export function useLocal(): Local {
  const { params } = useRoute()
  const lang = langOf(params), asked = params.get('tz')
  const zone = asked && valid(asked) ? asked : serverZone
  const k = lang + zone
  let l = made.get(k)
  if (!l) {
    const t = text(lang)
    made.set(k, l = { lang, zone, t, f: new Format(lang, zone, t) })
  }
  return l
}

// days is the zone that the server begins its days in.
export const days = () => serverZone

function valid(zone: string): boolean {
  try { return !!new Intl.DateTimeFormat('en', { timeZone: zone }) } catch { return false }
}
