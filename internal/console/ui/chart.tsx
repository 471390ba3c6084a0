import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import type { ComponentChildren } from 'preact'
import uPlot from 'uplot'
import { useLocal } from './i18n'
import type { Range } from './time'
import { go } from './url'
import { iso } from './time'
import { Icon } from './icons'

export interface Series { name: string; color: string; values: (number | null)[]; total?: string }

export interface ChartProps {
  id: string
  title: string
  note?: ComponentChildren
  range: Range
  times: number[]
  step: number
  series: Series[]
  kind: 'bars' | 'lines'
  format: (n: number | null) => string
  empty: boolean
  least?: number // what the scale reaches at least
  axis?: (n: number) => string
}

// useHeight lets three rows of charts fill the window.
function useHeight(): number {
  const fit = () => Math.round(Math.min(300, Math.max(140, (innerHeight - 210 - 28 - 3 * 90) / 3)))
  const [height, set] = useState(fit)
  useEffect(() => {
    const f = () => set(fit())
    addEventListener('resize', f)
    return () => removeEventListener('resize', f)
  }, [])
  return height
}

const css = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()

// ink is the colour behind var(--name): a canvas needs it resolved.
const ink = (s: Series) => css(s.color.slice(4, -1))

// A Chart is a plot and, at the press of a button, the table of the same numbers.
export function Chart(p: ChartProps) {
  const { t } = useLocal()
  const [table, setTable] = useState(false)
  return (
    <section class="card chart" aria-label={p.title} id={p.id}>
      <header>
        <h2>{p.title}</h2>
        <span class="note">{p.note}</span>
        <button class="icon" title={t(table ? 'chart.plot' : 'chart.table')} aria-label={t(table ? 'chart.plot' : 'chart.table') + ': ' + p.title} aria-pressed={table} onClick={() => setTable(!table)}>
          <Icon name={table ? 'chart' : 'table'} />
        </button>
      </header>
      {table ? <Table {...p} /> : <Plot {...p} />}
      <ul class="legend">
        {p.series.map(s => (
          <li key={s.name}><i style={{ background: s.color }} />{s.name}{s.total !== undefined && <b>{s.total}</b>}</li>
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

function Plot(p: ChartProps) {
  const { t, f, zone } = useLocal()
  const box = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot>()
  const [hover, setHover] = useState<{ i: number; x: number; w: number } | null>(null)
  const height = useHeight()
  const shape = [p.kind, p.series.map(s => s.name + s.color).join(), f.lang, zone, p.step, height, p.least].join('|')

  const data = (): uPlot.AlignedData => p.kind === 'bars'
    ? [p.times, ...stack(p.series).reverse()] as uPlot.AlignedData
    : [p.times, ...p.series.map(s => s.values)] as uPlot.AlignedData

  // The newest range and numbers, for handlers that live as long as the plot.
  const now = useRef(p)
  now.current = p

  useLayoutEffect(() => {
    const el = box.current!
    const bars = p.kind === 'bars'
    const order = bars ? [...p.series].reverse() : p.series
    const axis = { stroke: () => css('--muted'), font: '11px ' + css('--font'), grid: { stroke: () => css('--grid'), width: 1 }, ticks: { show: false } }
    const u = new uPlot({
      width: el.clientWidth, height,
      padding: [10, 4, 0, 0],
      tzDate: ts => uPlot.tzDate(new Date(ts * 1000), zone),
      legend: { show: false },
      cursor: {
        y: false, sync: { key: 'time' }, points: bars ? { show: false } : { size: 7 },
        drag: { x: true, y: false, setScale: false },
      },
      scales: {
        x: { time: true, range: () => [now.current.times[0] ?? now.current.range.from, Math.max(now.current.range.to, (now.current.times.at(-1) ?? 0) + (bars ? now.current.step : 0))] },
        y: { range: (_u, _min, max) => [0, Math.max(now.current.least ?? 0, max > 0 ? max * 1.08 : now.current.least ?? 1)] },
      },
      axes: [
        { ...axis, space: 72, size: 26, values: (_u, at, _i, _s, incr) => at.map(v => incr >= 86400 || f.clock(v) === '00:00' ? f.day(v) : f.clock(v)) },
        { ...axis, size: (_u, values) => 16 + 6.6 * Math.max(3, ...(values ?? []).map(v => width(v))), values: (_u, at) => at.map(v => (now.current.axis ?? now.current.format)(v)), space: 34 },
      ],
      series: [
        {},
        ...order.map(s => bars
          ? { label: s.name, fill: () => ink(s), width: 0, paths: uPlot.paths.bars!({ size: [0.82, 40], align: 1, gap: 0 }), points: { show: false } }
          : { label: s.name, stroke: () => ink(s), width: 1.75, spanGaps: false, points: { show: true, filter: lonely, size: 4, fill: () => ink(s), stroke: () => ink(s) } }),
      ],
      hooks: {
        setCursor: [u => setHover(u.cursor.idx == null || u.cursor.left! < 0 ? null : { i: u.cursor.idx, x: u.cursor.left! + u.bbox.left / devicePixelRatio, w: el.clientWidth })],
        setSelect: [u => {
          if (u.select.width < 8) return
          const from = Math.floor(u.posToVal(u.select.left, 'x')), to = Math.ceil(u.posToVal(u.select.left + u.select.width, 'x'))
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false)
          if (to - from >= 60) go({ range: null, step: null, from: iso(from), to: iso(to) })
        }],
      },
    }, data(), el)
    plot.current = u
    const sized = new ResizeObserver(() => u.setSize({ width: el.clientWidth, height }))
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

  const at = hover && p.times[hover.i]
  return (
    <div class="plot" style={{ height: height + 'px' }}>
      <div ref={box} role="img" aria-label={t('chart.summary', { title: p.title, series: p.series.map(s => s.total === undefined ? s.name : s.name + ' ' + s.total).join(', ') })} />
      {p.empty && <p class="nothing">{t('chart.empty')}</p>}
      {hover && at !== null && !p.empty && (
        <div class="tip" style={hover.x > hover.w / 2 ? { right: hover.w - hover.x + 12 + 'px' } : { left: hover.x + 12 + 'px' }}>
          <strong>{p.step >= 86400 ? f.day(at) : f.moment(at)}</strong>
          {p.series.map(s => (
            <div key={s.name}><i style={{ background: s.color }} /><span>{s.name}</span><b>{p.format(s.values[hover.i] ?? null)}</b></div>
          ))}
        </div>
      )}
    </div>
  )
}

// lonely are the points without a neighbour: no line would show them.
const lonely: uPlot.Series.Points.Filter = (u, i) => {
  const v = u.data[i]
  const at: number[] = []
  v.forEach((x, j) => { if (x != null && v[j - 1] == null && v[j + 1] == null) at.push(j) })
  return at
}

// width counts a wide character twice.
const width = (s: string) => [...s].reduce((n, c) => n + (c > '\u1100' ? 1.7 : 1), 0)

function Table(p: ChartProps) {
  const { t, f } = useLocal()
  const height = useHeight()
  const rows = p.times.map((at, i) => [at, i] as const).reverse().filter(([, i]) => p.series.some(s => s.values[i]))
  return (
    <div class="twin" tabIndex={0} style={{ height: height + 'px' }} role="region" aria-label={t('chart.tableof', { title: p.title })}>
      <table>
        <thead><tr><th scope="col">{t('time')}</th>{p.series.map(s => <th scope="col" class="n">{s.name}</th>)}</tr></thead>
        <tbody>
          {rows.slice(0, 2000).map(([at, i]) => (
            <tr key={at}><th scope="row">{p.step >= 86400 ? f.day(at) : f.moment(at)}</th>{p.series.map(s => <td class="n">{p.format(s.values[i] ?? null)}</td>)}</tr>
          ))}
        </tbody>
      </table>
      {rows.length === 0 && <p class="nothing">{t('chart.empty')}</p>}
    </div>
  )
}
