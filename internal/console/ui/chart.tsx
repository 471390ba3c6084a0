import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import type { ComponentChildren } from 'preact'
import uPlot from 'uplot'
import { days, useLocal } from './i18n'
import { Icon } from './icons'
import { lines, type Unit } from './scale'
import { Copy } from './states'
import { after, iso, type Range } from './time'
import { go, useRoute } from './url'

export interface Series {
  name: string
  color: string // var(--…)
  values: (number | null)[]
  total?: string
  pick?: () => void // what its name in the legend does
}

export interface ChartProps {
  id: string
  title: string
  note?: ComponentChildren
  tools?: ComponentChildren
  range: Range
  zone: string // that steps are aligned to
  times: number[]
  step: number
  series: Series[]
  kind: 'bars' | 'lines'
  unit: Unit
  format: (n: number | null) => string
  axis: (n: number, step: number) => string
  least: number // what the scale reaches at least
  empty: boolean
}

const css = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()

// ink is the colour behind var(--name): a canvas needs it resolved.
const ink = (s: Series) => css(s.color.slice(4, -1))

// label names the step at t. A day is named as the server cuts it.
const label = (f: ReturnType<typeof useLocal>['f'], step: number, t: number) => step >= 86400 ? f.weekday(t, days()) : f.moment(t)

// A Chart is a plot and, at the press of a button, the table of the same numbers.
export function Chart(p: ChartProps) {
  const { t } = useLocal()
  const { params } = useRoute()
  const open = params.getAll('table'), table = open.includes(p.id)
  const turn = () => go({ table: table ? open.filter(x => x !== p.id) : [...open, p.id] }, undefined, true)
  return (
    <section class="card chart" aria-label={p.title} id={p.id}>
      <header>
        <h2>{p.title}</h2>
        <span class="note">{p.note}</span>
        {p.tools}
        {table && <Copy text={() => csv(p)} label={t('copy_csv')} small />}
        <button class="icon" title={t(table ? 'chart.plot' : 'chart.table')} aria-label={t(table ? 'chart.plot' : 'chart.table') + ': ' + p.title} aria-pressed={table} onClick={turn}>
          <Icon name={table ? 'chart' : 'table'} />
        </button>
      </header>
      {table ? <Table {...p} /> : <Plot {...p} />}
      <ul class="legend">
        {p.series.map(s => (
          <li key={s.name}>
            {s.pick ? <button onClick={s.pick}><i style={{ background: s.color }} />{s.name}</button> : <span><i style={{ background: s.color }} />{s.name}</span>}
            {s.total !== undefined && <b>{s.total}</b>}
          </li>
        ))}
      </ul>
    </section>
  )
}

function stack(series: Series[]): (number | null)[][] {
  const sums: (number | null)[][] = []
  series.forEach((s, i) => sums.push(s.values.map((v, j) => (v ?? 0) + (i ? sums[i - 1][j] ?? 0 : 0))))
  return sums
}

// look shows the Calls of a range of time; zoom looks at it more closely.
const look = (from: number, to: number) => go({ range: null, step: null, table: null, by: null, first: null, from: iso(from), to: iso(to) }, '/requests')
const zoom = (from: number, to: number) => go({ range: null, step: null, from: iso(from), to: iso(to) })

const shortest = 60 // seconds that a range has at least

export function Plot(p: ChartProps & { slim?: boolean }) {
  const { t, f, zone } = useLocal()
  const box = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot | undefined>(undefined)
  const [hover, setHover] = useState<{ i: number; x: number; w: number } | null>(null)
  const bars = p.kind === 'bars'
  const shape = [p.kind, p.series.map(s => s.name + s.color).join(), f.lang, zone, p.step, p.unit].join('|')

  const data = (): uPlot.AlignedData => bars
    ? [p.times, ...stack(p.series).reverse()] as uPlot.AlignedData
    : [p.times, ...p.series.map(s => s.values)] as uPlot.AlignedData

  // The newest range and numbers, for handlers that live as long as the plot.
  const now = useRef(p)
  now.current = p
  const end = (i: number) => Math.min(after(now.current.times[i], now.current.step, now.current.zone), Math.max(now.current.range.to, now.current.times[i] + shortest))

  useLayoutEffect(() => {
    const el = box.current!
    const order = bars ? [...p.series].reverse() : p.series
    const axis = { stroke: () => css('--muted'), font: '11px ' + css('--font'), grid: { stroke: () => css('--grid'), width: 1 }, ticks: { show: false } }
    // A single error must not fill the height; a small sum of money may.
    const reach = (max: number) => max > 0 && (p.unit === 'usd' || p.unit === 'ms') ? max : Math.max(now.current.least, max)
    let dragged = false
    const u = new uPlot({
      width: el.clientWidth, height: el.clientHeight,
      padding: p.slim ? [2, 4, 0, 4] : [8, 26, 0, 0],
      tzDate: ts => uPlot.tzDate(new Date(ts * 1000), p.step >= 86400 ? days() : zone),
      legend: { show: false },
      cursor: {
        y: false, sync: { key: 'time' }, points: bars ? { show: false } : { size: 7 },
        drag: { x: true, y: false, setScale: false },
      },
      scales: {
        x: { time: true, range: () => [now.current.times[0] ?? now.current.range.from, Math.max(now.current.range.to, (now.current.times.at(-1) ?? 0) + (bars ? now.current.step : 0))] },
        y: { range: (u, _min, max) => [0, lines(reach(max ?? 0), p.unit, rows(u)).at(-1)!] },
      },
      axes: [
        { ...axis, show: !p.slim, space: 64, size: 24, gap: 6, grid: { show: false }, values: (_u, at, _i, _s, incr) => at.map(v => v > now.current.range.to ? '' : incr >= 86400 ? f.day(v, days()) : f.clock(v) === '00:00' ? f.day(v) : f.clock(v)) },
        {
          ...axis, show: !p.slim, gap: 6, size: (_u, values) => 14 + 6.4 * Math.max(3, ...(values ?? []).map(v => width(v))),
          splits: (u, _i, _min, max) => lines(max, p.unit, rows(u)), values: (_u, at) => at.map(v => now.current.axis(v, at[1] - at[0])),
        },
      ],
      series: [
        {},
        ...order.map(s => bars
          ? { label: s.name, fill: () => ink(s), width: 0, paths: uPlot.paths.bars!({ size: [p.slim ? 0.9 : 0.84, 44], align: 1, gap: 0 }), points: { show: false } }
          : { label: s.name, stroke: () => ink(s), width: 1.75, spanGaps: false, points: { show: true, filter: lonely, size: 4, fill: () => ink(s), stroke: () => ink(s) } }),
      ],
      hooks: {
        draw: [unfinished],
        setCursor: [u => setHover(u.cursor.idx == null || u.cursor.left! < 0 || !u.over.matches(':hover') ? null : { i: u.cursor.idx, x: u.cursor.left! + u.bbox.left / devicePixelRatio, w: el.clientWidth })],
        setSelect: [u => {
          if (u.select.width < 6) return
          dragged = true
          const { times, range } = now.current
          const from = Math.floor(u.posToVal(u.select.left, 'x')), to = Math.ceil(u.posToVal(u.select.left + u.select.width, 'x'))
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false)
          // Whole steps, so that no bar of the closer look is cut.
          const first = times.filter(x => x <= from).at(-1) ?? from, last = times.find(x => x >= to) ?? Math.floor(range.to)
          if (last - first >= shortest) zoom(first, last)
        }],
      },
    }, data(), el)
    // Bars of a step that is not over are paler: it will grow.
    function unfinished(u: uPlot) {
      const { times, range, step, zone } = now.current, last = times.at(-1)
      if (!range.live || last === undefined || after(last, step, zone) <= range.to) return
      const x = Math.round(u.valToPos(last, 'x', true)), { top, height, left, width } = u.bbox
      u.ctx.save()
      u.ctx.globalAlpha = 0.45
      u.ctx.fillStyle = css('--card')
      u.ctx.fillRect(bars ? x : u.valToPos(times.at(-2) ?? last, 'x', true), top - 2, left + width - x + 2 + (bars ? 0 : x - u.valToPos(times.at(-2) ?? last, 'x', true)), height + 2)
      u.ctx.restore()
    }
    plot.current = u
    u.over.addEventListener('mousedown', () => { dragged = false })
    u.over.addEventListener('click', e => {
      const i = u.cursor.idx
      if (dragged || i == null || (e as PointerEvent).pointerType === 'touch') return
      now.current.slim ? zoom(now.current.times[i], end(i)) : look(now.current.times[i], end(i))
    })
    const sized = new ResizeObserver(() => u.setSize({ width: el.clientWidth, height: el.clientHeight }))
    sized.observe(el)
    return () => { sized.disconnect(); u.destroy(); plot.current = undefined }
  }, [shape])

  useEffect(() => { plot.current?.setData(data()) }, [p.times, p.series])

  // A theme changes colours that the canvas has drawn already.
  useEffect(() => {
    const redraw = () => plot.current?.redraw(false, true)
    addEventListener('theme', redraw)
    return () => removeEventListener('theme', redraw)
  }, [])

  const at = hover ? p.times[hover.i] : undefined
  return (
    <div class={p.slim ? 'plot slim' : 'plot'}>
      <div ref={box} class="canvas" role="img" aria-label={t('chart.summary', { title: p.title, series: p.series.map(s => s.total === undefined ? s.name : s.name + ' ' + s.total).join(', ') })} />
      {p.empty && <p class="nothing">{t('chart.empty')}</p>}
      {hover && at !== undefined && !p.empty && (
        <div class="tip" style={hover.x > hover.w / 2 ? { right: Math.min(hover.w - hover.x + 14, hover.w - tipWidth) + 'px' } : { left: Math.min(hover.x + 14, hover.w - tipWidth) + 'px' }}>
          <strong>{label(f, p.step, at)}{p.range.live && hover.i === p.times.length - 1 && <small>{t('so_far')}</small>}</strong>
          {p.series.map(s => (
            <div key={s.name}><i style={{ background: s.color }} /><span>{s.name}</span><b>{p.format(s.values[hover.i] ?? null)}</b></div>
          ))}
          <p>{t(p.slim ? 'chart.hint_slim' : 'chart.hint')}</p>
        </div>
      )}
    </div>
  )
}

// rows is how many lines of a scale the height of a plot has room for.
const rows = (u: uPlot) => Math.max(2, Math.floor(u.height / 44))

// lonely are the points without a neighbour: no line would show them.
const lonely: uPlot.Series.Points.Filter = (u, i) => {
  const v = u.data[i]
  const at: number[] = []
  v.forEach((x, j) => { if (x != null && v[j - 1] == null && v[j + 1] == null) at.push(j) })
  return at
}

// width counts a wide character twice.
const width = (s: string) => [...s].reduce((n, c) => n + (c > '\u1100' ? 1.7 : 1), 0)

const tipWidth = 190 // as style.css has it, at most

const mostRows = 2000

// filled are the steps that hold anything, newest first.
const filled = (p: ChartProps) => p.times.map((at, i) => [at, i] as const).reverse().filter(([, i]) => p.series.some(s => s.values[i]))

// csv is the table with exact numbers, as RFC 4180 writes it.
const csv = (p: ChartProps) => [['time', ...p.series.map(s => s.name)], ...filled(p).map(([at, i]) => [iso(at), ...p.series.map(s => s.values[i] ?? '')])]
  .map(r => r.map(v => /[",\n]/.test(String(v)) ? `"${String(v).replaceAll('"', '""')}"` : v).join(',')).join('\r\n')

function Table(p: ChartProps) {
  const { t, f } = useLocal()
  const rows = filled(p)
  return (
    <div class="twin">
      <div class="scroll" tabIndex={0} role="region" aria-label={t('chart.tableof', { title: p.title })}>
        <table>
          <thead><tr><th scope="col">{t('time')}</th>{p.series.map(s => <th scope="col" class="n" key={s.name}>{s.name}</th>)}</tr></thead>
          <tbody>
            {rows.slice(0, mostRows).map(([at, i]) => (
              <tr key={at}>
                <th scope="row"><button class="link" onClick={() => look(at, after(at, p.step, p.zone))}>{label(f, p.step, at)}</button></th>
                {p.series.map(s => <td class="n" key={s.name} data-value={s.values[i] ?? ''}>{p.format(s.values[i] ?? null)}</td>)}
              </tr>
            ))}
          </tbody>
        </table>
        {rows.length > mostRows && <p class="note center">{t('chart.cut', { n: f.int(mostRows), all: f.int(rows.length) })}</p>}
      </div>
      {rows.length === 0 && <p class="nothing">{t('chart.empty')}</p>}
    </div>
  )
}
