// Every number of the overview is the API's: headline, charts, their tables,
// tooltips, causes and the breakdown, in both languages, of a range that is over.

import { ask, assert, enter, ready, same, shown, text } from '../lib.mjs'

const measures = ['requests', 'errors_4xx', 'errors_429', 'errors_5xx', 'canceled', 'input_tokens', 'output_tokens', 'cost_nano_usd', 'unpriced', 'latency_p50', 'latency_p95', 'latency_p99', 'ttft_p50', 'ttft_p95', 'ttft_p99']
const sliced = ['cost_nano_usd', 'requests', 'errors_4xx', 'errors_429', 'errors_5xx', 'latency_p50', 'latency_p95', 'ttft_p95', 'output_tokens_per_second', 'input_tokens', 'output_tokens']

export default async function () {
  const now = Date.now()
  const range = (ago, length, step) => ({ from: new Date(now - ago * 36e5).toISOString(), to: new Date(now - (ago - length) * 36e5).toISOString(), step })
  for (const [lang, r, query] of [
    ['en', range(30, 24, '15m'), ''], ['ko', range(30, 24, '15m'), ''], ['ko', range(8 * 24, 7 * 24, '1h'), ''], ['en', range(3, 2.5, '5m'), '&model=gpt-4.1'], ['en', range(20 * 24, 15 * 24, '1d'), '&code=429&code=5xx'],
  ]) await one(lang, r, query)
}

async function one(lang, { from, to, step }, extra) {
  const page = await enter(`/?lang=${lang}&from=${from}&to=${to}&step=${step}${extra}`)
  const filter = {}
  for (const [k, v] of new URLSearchParams(extra)) (filter[k] ??= []).push(v)
  const query = o => ask(page, '/api/v1/query', { from, to, filter, ...o })
  await ready(page)
  const where = `${lang} ${step}${extra}`
  const at = m => measures.indexOf(m)

  // The headline.
  const all = await query({ step, measures })
  const v = all.total
  assert.ok(v[0] > 3, `${where}: only ${v[0]} calls to compare`)
  const failed = v[1] + v[2] + v[3]
  for (const [name, value] of [['requests', v[0]], ['error_rate', failed / v[0]], ['p95', v[at('latency_p95')]], ['tokens', v[at('input_tokens')] + v[at('output_tokens')]], ['cost', v[at('cost_nano_usd')]]]) {
    const el = page.locator(`[data-number=${name}]`)
    same(await el.textContent(), value, `${where}: ${name}`)
    assert.equal(+await el.getAttribute('data-value'), value, `${where}: ${name}, exactly`)
  }
  assert.equal(await page.locator('[data-number=cost]').getAttribute('title'), '$' + (BigInt(v[at('cost_nano_usd')]) / 10n ** 9n) + '.' + String(v[at('cost_nano_usd')]).padStart(9, '0').slice(-9), `${where}: the cost to the last digit`)

  // The charts as tables: each cell is the API's point.
  const byTime = new Map(all.series[0].points.map(p => [p[0], p.slice(1)]))
  const columns = {
    'chart-requests': p => [p[0] - p[1] - p[2] - p[3] - p[4], p[1], p[2], p[3], p[4]],
    'chart-errors': p => [p[1] / p[0], p[2] / p[0], p[3] / p[0]],
    'chart-latency': p => [p[at('latency_p50')], p[at('latency_p95')], p[at('latency_p99')]],
    'chart-tokens': p => [p[at('input_tokens')], p[at('output_tokens')]],
  }
  for (const [id, values] of Object.entries(columns)) {
    const tip = await hover(page, id)
    const rows = await table(page, id)
    const want = [...byTime].sort((a, b) => b[0] - a[0]).map(([, p]) => values(p)).filter(r => r.some(x => x))
    compare(rows, want, `${where}: ${id}`)
    assert.ok(!tip || rows.some(r => r.cells.join() === tip.join()), `${where}: the tooltip of ${id} says ${tip}, which no row of its table does`)
  }
  await page.click('#chart-latency [aria-pressed=false]:has-text("' + text(lang).ttft + '")')
  compare(await table(page, 'chart-latency', true), [...byTime].sort((a, b) => b[0] - a[0]).map(([, p]) => [p[at('ttft_p50')], p[at('ttft_p95')], p[at('ttft_p99')]]).filter(r => r.some(x => x)), `${where}: first token`)

  // Cost by model: columns are models, the dearest first.
  const long = Date.parse(to) - Date.parse(from) > 2 * 864e5
  const cost = await query({ step: long ? '1d' : step, group_by: ['model'], measures: ['cost_nano_usd'] })
  const paid = cost.series.filter(s => s.group.model && s.total[0] > 0).sort((a, b) => b.total[0] - a.total[0])
  assert.ok(paid.length <= 6, 'more models than colours: this check does not sum the rest')
  if (paid.length > 0) {
    const times = [...new Set(paid.flatMap(s => s.points.filter(p => p[1]).map(p => p[0])))].sort((a, b) => b - a)
    const rows = await table(page, 'chart-cost')
    compare(rows, times.map(t => paid.map(s => s.points.find(p => p[0] === t)?.[1] ?? 0)), `${where}: cost`)
    assert.deepEqual(rows.head, [text(lang).time, ...paid.map(s => s.group.model)])
  }

  // The causes add up to the errors, and the breakdown is the API's.
  const causes = await page.locator('.causes li b').allTextContents()
  if (!extra.includes('code')) assert.equal(causes.reduce((n, x) => n + shown(x).value, 0), failed, `${where}: causes`)
  const by = await query({ group_by: ['model'], measures: sliced })
  const lines = await page.locator('.breakdown tbody tr').all()
  const models = by.series.filter(s => s.group.model)
  assert.equal(lines.length, models.length)
  for (const [i, s] of models.entries()) {
    const t = s.total, cells = await lines[i].locator('th,td').allTextContents()
    assert.equal(cells[0], s.group.model)
    const w = `${where}: ${s.group.model}`
    for (const [j, value] of [[1, t[1]], [3, (t[2] + t[3] + t[4]) / t[1]], [4, t[3]], [5, t[5]], [6, t[6]], [7, t[7]], [9, t[9]], [10, t[10]]]) same(cells[j], value, `${w}, column ${j}`)
    if (t[8] !== null) same(cells[8].replace(/ ?(tok\/s|토큰\/초)/, ''), t[8], `${w}, speed`)
    if (t[0]) same(cells[11], t[0], `${w}, cost`)
  }
  page.calm()
  await page.context().close()
}

async function table(page, id, open) {
  if (!open) await page.click(`#${id} header button[aria-pressed=false].icon`)
  else await page.click(`#${id} header button.icon >> nth=-1`)
  const rows = await page.locator(`#${id} .twin tbody tr`).evaluateAll(rows => rows.map(r => [...r.querySelectorAll('td')].map(c => [c.textContent, c.dataset.value])))
  const head = await page.locator(`#${id} thead th`).allTextContents()
  if (!open) await page.click(`#${id} header button[aria-pressed=true].icon`)
  return Object.assign(rows.map(r => ({ cells: r.map(c => c[0]), values: r.map(c => c[1]) })), { head })
}

function compare(rows, want, what) {
  assert.equal(rows.length, want.length, `${what}: rows`)
  for (const [i, r] of rows.entries()) {
    for (const [j, value] of want[i].entries()) {
      same(r.cells[j], value, `${what}, row ${i}, column ${j}`)
      if (value !== null) assert.ok(Math.abs(+r.values[j] - value) < 1e-12 * Math.max(1, value), `${what}, row ${i}, column ${j}: ${r.values[j]}, not ${value}`)
    }
  }
}

// hover puts the pointer on a chart and reads its tooltip, where there is
// something.
async function hover(page, id) {
  if (await page.locator(`#${id} .nothing`).count() > 0) return null
  const over = page.locator(`#${id} .u-over`)
  const { width, height } = await over.boundingBox()
  for (const x of [0.5, 0.55, 0.62, 0.71, 0.83, 0.91, 0.45, 0.3, 0.2, 0.1, 0.05, 0.95]) {
    await over.hover({ position: { x: width * x, y: height / 2 } })
    await page.waitForSelector(`#${id} .tip`)
    const tip = await page.locator(`#${id} .tip b`).allTextContents()
    if (tip.some(t => !/^(0|0%|–|\$0\.00)$/.test(t))) return tip
  }
  assert.ok(id === 'chart-errors', `${id}: no tooltip tells of anything`)
  return null
}
