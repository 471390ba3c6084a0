import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import type { ComponentChildren } from 'preact'
import { query, type Me } from './api'
import { classWord } from './causes'
import { days, useLocal, type Word } from './i18n'
import { Icon } from './icons'
import { fits, iso, presets, rangeOf, steps, unwall, wall, type Range } from './time'
import { dims as allDims, go, noFilter, only, useRoute, type Dim, type Patch } from './url'

const codes = ['2xx', '4xx', '429', '5xx', 'canceled']

// FilterBar chooses what is shown: which Calls, and the range of time.
export function FilterBar({ me, dims, search, children }: { me: Me; dims: Dim[]; search?: boolean; children?: ComponentChildren }) {
  const { params } = useRoute()
  const { t } = useLocal()
  const shown = rangeOf(params, Date.now() / 1000, days())
  const values = useValues(dims, shown)
  const any = allDims.some(d => params.has(d)) || params.has('tag') || params.has('q')
  const name = (d: string, v: string) => v === 'canceled' ? t('canceled') : v === '2xx' ? t('ok') : d === 'error_class' ? classWord(t, v) : v
  // What no list shows is a chip: another dimension, a tag, a second value.
  const chips = [...allDims, 'tag'].flatMap(d => params.getAll(d).slice(dims.includes(d as Dim) ? 1 : 0).map(v => [d, v] as const))
  return (
    <div class="bar" role="search" aria-label={t('filters')}>
      {search && <Search param="q" label={t('search')} enter={byTag} />}
      {dims.filter(d => d !== 'key' || me.admin).map(d => (
        <select key={d} aria-label={t(d as Word)} class={params.has(d) ? 'set' : ''} value={params.get(d) ?? ''} onChange={e => go({ [d]: e.currentTarget.value })}>
          <option value="">{t(('any_' + d) as Word)}</option>
          {[...new Set([...(d === 'code' ? codes : values[d] ?? []), ...params.getAll(d)])].filter(Boolean).map(v => <option key={v} value={v}>{name(d, v)}</option>)}
        </select>
      ))}
      {chips.map(([d, v]) => (
        <button key={d + v} class="chip" title={t('remove')} onClick={() => go({ [d]: params.getAll(d).filter(x => x !== v) })}>
          <span class="dim">{t(d as Word)}</span>{name(d, v)}<Icon name="close" />
        </button>
      ))}
      {any && <button class="text" title={t('clear_more')} onClick={() => go(noFilter)}>{t('clear')}</button>}
      <div class="period">
        {children}
        <Custom range={shown} />
        <div class="segments" role="group" aria-label={t('range')}>
          {presets.map(p => <button key={p} aria-pressed={shown.live && shown.name === p} onClick={() => go({ range: p, from: null, to: null, step: null })}>{t(('range_' + p) as Word)}</button>)}
        </div>
        {!search && (
          <select aria-label={t('step')} class={params.has('step') ? 'set' : ''} value={params.get('step') ?? ''} onChange={e => go({ step: e.currentTarget.value })}>
            <option value="">{t('step_auto')}</option>
            {steps.map(s => <option key={s} value={s} disabled={!fits(shown.to - shown.from, s)}>{t(('by_' + s) as Word)}</option>)}
          </select>
        )}
      </div>
    </div>
  )
}

// Search writes what is typed into a parameter of the address. What Enter makes
// of it, if anything, takes its place.
export function Search({ param, label, enter }: { param: 'q' | 'find'; label: string; enter?: (text: string) => Patch | undefined }) {
  const { params } = useRoute()
  const asked = params.get(param) ?? ''
  const [text, setText] = useState(asked)
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined)
  useLayoutEffect(() => setText(asked), [asked]) // not over what is typed meanwhile
  return (
    <label class="search">
      <Icon name="search" />
      <input id="filter" type="search" value={text} placeholder={label} aria-label={label} spellcheck={false}
        onInput={e => { const v = e.currentTarget.value; setText(v); clearTimeout(timer.current); timer.current = setTimeout(() => go({ [param]: v }, undefined, true), 250) }}
        onKeyDown={e => {
          if (e.key === 'Escape') e.currentTarget.blur()
          const patch = e.key === 'Enter' && enter?.(text.trim())
          if (patch) { clearTimeout(timer.current); go({ ...patch, [param]: null }) }
        }} />
      <kbd aria-hidden="true">/</kbd>
    </label>
  )
}

// byTag is the filter by a tag that is written out.
function byTag(text: string): Patch | undefined {
  const tag = /^([^\s:=]+)[:=](\S+)$/.exec(text)
  return tag ? only('tag:' + tag[1], tag[2]) : undefined
}

// Custom says what range is shown, on the clock of the page, and takes another.
function Custom({ range }: { range: Range }) {
  const { t, f, zone } = useLocal()
  const box = useRef<HTMLDetailsElement>(null)
  const [opened, open] = useState(0) // a form that is open keeps what is typed, whatever the range does meanwhile
  const [wrong, setWrong] = useState(false)
  const set = (e: SubmitEvent) => {
    e.preventDefault()
    const d = new FormData(e.currentTarget as HTMLFormElement)
    const from = unwall(String(d.get('from')), zone), to = unwall(String(d.get('to')), zone)
    setWrong(!(from < to))
    if (from < to) { go({ range: null, step: null, from: iso(from), to: iso(to) }); box.current!.open = false }
  }
  const close = (e: KeyboardEvent) => {
    if (e.key !== 'Escape' || !box.current!.open) return
    e.stopPropagation()
    box.current!.open = false
    box.current!.querySelector('summary')!.focus()
  }
  useEffect(() => {
    const outside = (e: MouseEvent) => { if (!box.current!.contains(e.target as Node)) box.current!.open = false }
    addEventListener('mousedown', outside)
    return () => removeEventListener('mousedown', outside)
  }, [])
  return (
    <details class="custom" ref={box} onKeyDown={close} onToggle={e => { if (e.currentTarget.open) { setWrong(false); open(n => n + 1) } }}>
      <summary class={'button' + (range.live ? '' : ' set')} title={t('custom')}><Icon name="clock" /><span>{f.span(range.from, range.to)}</span><small>{zone}</small></summary>
      <form onSubmit={set} key={opened + zone}>
        <label>{t('from')}<input name="from" type="datetime-local" required defaultValue={wall(range.from, zone)} /></label>
        <label>{t('to')}<input name="to" type="datetime-local" required defaultValue={wall(range.to, zone)} /></label>
        <p class={wrong ? 'bad' : 'note'} role={wrong ? 'alert' : undefined}>{wrong ? t('range_wrong') : t('on_clock', { zone })}</p>
        <button class="button primary">{t('apply')}</button>
        {!range.live && <button type="button" class="button" onClick={() => { box.current!.open = false; go({ from: null, to: null }) }}>{t('range_clear')}</button>}
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
