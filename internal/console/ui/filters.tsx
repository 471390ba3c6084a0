import { useEffect, useRef, useState } from 'preact/hooks'
import { query, type Me } from './api'
import { useLocal, type Word } from './i18n'
import { Icon } from './icons'
import { iso, presets, rangeOf, steps, type Range } from './time'
import { go, useRoute, type dims as allDims } from './url'

type Dim = typeof allDims[number]

const codes = ['2xx', '4xx', '429', '5xx', 'canceled']

// FilterBar chooses what is shown: the range of time, and which Calls.
export function FilterBar({ me, dims, range, search, children }: { me: Me; dims: Dim[]; range?: Range; search?: boolean; children?: any }) {
  const { params } = useRoute()
  const { t, f } = useLocal()
  const shown = range ?? rangeOf(params, Date.now() / 1000, me.zone)
  const values = useValues(dims, shown)
  const any = dims.some(d => params.has(d)) || params.has('tag') || params.has('q')
  return (
    <div class="bar" role="search" aria-label={t('filters')}>
      {search && <Search />}
      {dims.map(d => (d !== 'key' || me.admin) && (
        <select key={d} aria-label={t(d as Word)} class={params.has(d) ? 'set' : ''} value={params.get(d) ?? ''} onChange={e => go({ [d]: e.currentTarget.value })}>
          <option value="">{t(('any_' + d) as Word)}</option>
          {[...new Set([...(d === 'code' ? codes : values[d] ?? []), ...params.getAll(d)])].filter(Boolean).map(v => <option key={v} value={v}>{v === 'canceled' ? t('canceled') : v === '2xx' ? t('ok') : v}</option>)}
        </select>
      ))}
      {search && <Tag />}
      {any && <button class="link" onClick={() => go({ model: null, provider: null, key: null, code: null, tag: null, q: null })}>{t('clear')}</button>}
      <span class="space" />
      {children}
      {!shown.live && !params.has('range') && params.has('from') && (
        <button class="chip" title={t('range_clear')} onClick={() => go({ from: null, to: null })}>{f.moment(shown.from)} – {f.moment(shown.to)}<Icon name="close" /></button>
      )}
      <Custom range={shown} />
      <div class="segments" role="group" aria-label={t('range')}>
        {presets.map(p => <button key={p} aria-pressed={shown.live && shown.name === p} onClick={() => go({ range: p, from: null, to: null, step: null })}>{t(('range_' + p) as Word)}</button>)}
      </div>
      {!search && (
        <select aria-label={t('step')} class={params.has('step') ? 'set' : ''} value={params.get('step') ?? ''} onChange={e => go({ step: e.currentTarget.value })}>
          <option value="">{t('step_auto')}</option>
          {steps.map(s => <option key={s} value={s}>{t(('by_' + s) as Word)}</option>)}
        </select>
      )}
    </div>
  )
}

function Search() {
  const { params } = useRoute()
  const { t } = useLocal()
  const asked = params.get('q') ?? ''
  const [text, setText] = useState(asked)
  const timer = useRef<ReturnType<typeof setTimeout>>()
  useEffect(() => setText(asked), [asked])
  return (
    <label class="search">
      <Icon name="search" />
      <input id="filter" type="search" value={text} placeholder={t('search')} aria-label={t('search')} spellcheck={false}
        onInput={e => { const v = e.currentTarget.value; setText(v); clearTimeout(timer.current); timer.current = setTimeout(() => go({ q: v }, undefined, true), 250) }}
        onKeyDown={e => { if (e.key === 'Escape') e.currentTarget.blur() }} />
      <kbd>/</kbd>
    </label>
  )
}

function Tag() {
  const { params } = useRoute()
  const { t } = useLocal()
  const asked = params.getAll('tag').join(' ')
  return <input class={'tag' + (asked ? ' set' : '')} type="text" value={asked} placeholder={t('tag_hint')} aria-label={t('tag')} spellcheck={false}
    onChange={e => go({ tag: e.currentTarget.value.split(/\s+/).filter(v => v.search(/[:=]/) > 0) })} />
}

// Custom is a range that is typed in, in the browser's own clock.
function Custom({ range }: { range: Range }) {
  const { t } = useLocal()
  const box = useRef<HTMLDetailsElement>(null)
  const local = (s: number) => new Date(s * 1000 - new Date(s * 1000).getTimezoneOffset() * 60_000).toISOString().slice(0, 16)
  const set = (e: SubmitEvent) => {
    e.preventDefault()
    const d = new FormData(e.currentTarget as HTMLFormElement)
    const from = Date.parse(String(d.get('from'))) / 1000, to = Date.parse(String(d.get('to'))) / 1000
    if (from < to) { go({ range: null, step: null, from: iso(from), to: iso(to) }); box.current!.open = false }
  }
  return (
    <details class="custom" ref={box}>
      <summary class="button">{t('custom')}</summary>
      <form onSubmit={set}>
        <label>{t('from')}<input name="from" type="datetime-local" required value={local(range.from)} /></label>
        <label>{t('to')}<input name="to" type="datetime-local" required value={local(range.to)} /></label>
        <p class="note">{Intl.DateTimeFormat().resolvedOptions().timeZone}</p>
        <button class="button primary">{t('apply')}</button>
      </form>
    </details>
  )
}

// useValues are the values that the range holds, the most used first.
function useValues(dims: Dim[], range: Range): Record<string, string[]> {
  const [values, set] = useState<Record<string, string[]>>({})
  const key = dims.join() + Math.floor(range.from / 300) + Math.floor(range.to / 300)
  useEffect(() => {
    const abort = new AbortController()
    const asked = dims.filter(d => d !== 'code')
    Promise.all(asked.map(d => query({ from: iso(range.from), to: iso(range.to), group_by: [d], measures: ['requests'] }, abort.signal)))
      .then(all => set(Object.fromEntries(asked.map((d, i) => [d, all[i].series.map(s => s.group[d])]))), () => {})
    return () => abort.abort()
  }, [key])
  return values
}
