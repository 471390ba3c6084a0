// The address holds the view: what is done changes it, and a reload shows the
// same. Filters, ranges and ways from a chart to its requests.

import { ask, assert, enter, ready, site, until } from '../lib.mjs'

export default async function () {
  await filters()
  await reload()
  await ranges()
  await charts()
}

const params = page => new URL(page.url()).searchParams
const day = 864e5
const fixed = () => `from=${new Date(Date.now() - 1.5 * day).toISOString()}&to=${new Date(Date.now() - 0.5 * day).toISOString()}`

const count = async page => { await ready(page); return +await page.locator('[data-number=requests]').getAttribute('data-value') }

async function filters() {
  const page = await enter(`/?lang=en&${fixed()}`)
  const [from, to] = [params(page).get('from'), params(page).get('to')]
  const api = async filter => (await ask(page, '/api/v1/query', { from, to, filter, measures: ['requests'] })).total[0]
  const is = async (filter, what) => {
    await until('the numbers of ' + what, async () => await count(page) === await api(filter))
    assert.ok(await api(filter) > 0, `${what}: nothing to see`)
  }
  await is({}, 'everything')
  const whole = await count(page)
  await page.selectOption('select[aria-label=Model]', 'gpt-4.1')
  await is({ model: ['gpt-4.1'] }, 'a model')
  assert.ok(await count(page) < whole)
  await page.selectOption('select[aria-label=Key]', 'search')
  await is({ model: ['gpt-4.1'], key: ['search'] }, 'a model and a key')
  await page.click('.bar button:text("Clear")')
  await is({}, 'everything again')
  await page.click('.breakdown .segments button:text("Team")')
  await page.click('.breakdown tbody button:text("finance")')
  await is({ team: ['finance'] }, 'a team')
  await page.click('.breakdown .segments button:text("app")')
  await ready(page)
  await page.click('.breakdown tbody button:text("summaries")')
  await is({ team: ['finance'], 'tag:app': ['summaries'] }, 'a team and a tag')
  await page.click('.bar .chip:has-text("finance")')
  await is({ 'tag:app': ['summaries'] }, 'a tag')
  await page.click('.bar .chip:has-text("app:summaries")')
  await page.click('#chart-cost .legend button:text("claude-sonnet-4-5")')
  await is({ model: ['claude-sonnet-4-5'] }, 'a model of the legend')
  await page.click('.bar button:text("Clear")')
  await page.goto(new URL(page.url()).origin + `/?lang=en&range=30d`)
  await ready(page)

  // From a cause to its requests.
  const cause = page.locator('.causes li button', { hasText: "Provider's rate limit" }).first()
  const n = await cause.locator('b').textContent()
  await cause.click()
  await page.waitForSelector('.rows [data-id]')
  assert.equal(params(page).get('error_class'), 'rate_limited')
  assert.equal(await page.locator('[data-number=requests]').textContent(), n)
  for (const s of await page.locator('.rows .badge').allTextContents()) assert.match(s, /^429Provider's rate limit$/)

  // Search, and a tag that is typed.
  await page.click('.bar button:text("Clear")')
  const id = await page.locator('.rows [data-id]').nth(2).getAttribute('data-id')
  await page.fill('#filter', id.toLowerCase())
  await until('the one row', async () => await page.locator('.rows [data-id]').count() === 1)
  assert.equal(await page.locator('.rows [data-id]').getAttribute('data-id'), id)
  await page.fill('#filter', 'env:dev')
  await page.press('#filter', 'Enter')
  await until('the tag', () => params(page).get('tag') === 'env:dev' && !params(page).has('q'))
  await page.fill('#filter', 'no such thing anywhere')
  await until('the empty list', async () => (await page.locator('.rows').textContent()).includes('No request matches'))
  await page.click('.rows button:text("Clear filters, show 90 days")')
  await page.waitForSelector('.rows [data-id]')
  assert.equal(params(page).get('range'), '90d')
  page.calm()
}

// What a view says, but for what lives.
const view = page => page.evaluate(() => {
  const main = document.querySelector('main').cloneNode(true)
  main.querySelectorAll('.u-wrap, [data-number=in_flight], .live, .loading').forEach(e => e.remove())
  return { text: main.innerText, pressed: [...main.querySelectorAll('[aria-pressed=true]')].map(e => e.textContent), zone: document.querySelector('[aria-label="Time zone"], [aria-label="시간대"]').value, lang: document.documentElement.lang }
})

async function reload() {
  const page = await enter(`/?${fixed()}&tz=Asia/Seoul`, { zone: 'Asia/Seoul' })
  await ready(page)
  await page.click('text=한국어')
  await until('Korean', async () => await page.evaluate(() => document.documentElement.lang) === 'ko' && (await page.locator('h1').textContent()) === '개요')
  await page.click('#chart-tokens header button.icon')
  await page.click('#chart-latency .segments button >> nth=1')
  await page.click('.breakdown .segments button:text("사용자")')
  await page.selectOption('select[aria-label="간격"]', '1h')
  await page.selectOption('select[aria-label="제공자"]', 'openai')
  await ready(page)
  const before = await view(page)
  assert.ok(before.text.includes('user-'), 'the breakdown by user')
  await page.reload()
  await ready(page)
  assert.deepEqual(await view(page), before)
  await page.keyboard.press('g')
  await page.keyboard.press('r')
  await page.waitForSelector('.rows [data-id]')
  await page.locator('.rows [data-id]').nth(4).click()
  await page.waitForSelector('.detail .total')
  const detail = await view(page)
  await page.reload()
  await page.waitForSelector('.detail .total')
  await page.waitForSelector('.rows [data-id]')
  await until('the same view', async () => JSON.stringify(await view(page)) === JSON.stringify(detail))
  // Back goes back, view by view.
  await page.goBack()
  await until('the request to close', async () => await page.locator('.detail').count() === 0)
  await page.goBack()
  await ready(page)
  await until('the overview as it was', async () => JSON.stringify(await view(page)) === JSON.stringify(before))
  page.calm()
}

async function ranges() {
  const page = await enter('/?lang=en')
  const hours = { '15m': 0.25, '1h': 1, '6h': 6, '24h': 24, '7d': 168, '30d': 720, '90d': 2160 }
  for (const [name, h] of Object.entries(hours)) {
    await page.click(`.segments button:text-is("${name}")`)
    await until(name, async () => params(page).get('range') === name)
    await ready(page)
    await until('the numbers of ' + name, async () => {
      const { from, to } = await page.evaluate(() => ({ ...document.getElementById('numbers').dataset }))
      const length = (Date.parse(to) - Date.parse(from)) / 36e5
      return length >= h && length <= h * 1.08 + 24 * (h > 168) + 1 * (h === 168) // it begins with a whole step
    })
    assert.ok(await count(page) > 0)
  }
  // A week by minute.
  await page.click('.segments button:text-is("7d")')
  await page.selectOption('select[aria-label=Step]', '1m')
  await ready(page)
  assert.equal(await page.locator('#chart-requests .note').textContent(), 'per minute')
  assert.ok(await page.locator('select[aria-label=Step] option[value="1m"]').isEnabled())
  await page.click('.segments button:text-is("90d")')
  await ready(page)
  assert.ok(await page.locator('select[aria-label=Step] option[value="1m"]').isDisabled(), '90 days by minute are too many')

  // A range that is typed, on the clock of the page.
  await page.goto(new URL(page.url()).origin + '/?lang=en&range=24h&tz=Asia/Seoul')
  await ready(page)
  await page.click('.custom summary')
  const at = new Date(Date.now() - 6 * 36e5 + 9 * 36e5).toISOString().slice(0, 13)
  await page.fill('input[name=to]', at + ':00')
  await page.fill('input[name=from]', at + ':30')
  await page.click('.custom .primary')
  assert.match(await page.locator('.custom [role=alert]').textContent(), /before the end/)
  await page.fill('input[name=to]', at + ':45')
  await page.click('.custom .primary')
  await until('the range', () => params(page).has('from'))
  assert.equal(params(page).get('from'), new Date(Date.parse(at + ':30Z') - 9 * 36e5).toISOString())
  assert.equal(params(page).get('to'), new Date(Date.parse(at + ':45Z') - 9 * 36e5).toISOString())
  await ready(page)
  await page.click('.custom summary')
  await page.click('.custom button:text("Back to the latest")')
  await until('the latest', () => !params(page).has('from'))
  page.calm()
}

async function charts() {
  const page = await enter('/?lang=en&range=24h')
  await ready(page)
  const over = page.locator('#chart-requests .u-over')
  const { x, y, width, height } = await over.boundingBox()
  await page.mouse.move(x + width * 0.4, y + height / 2)
  await page.mouse.down()
  await page.mouse.move(x + width * 0.6, y + height / 2, { steps: 5 })
  await page.mouse.up()
  await until('the range of the drag', () => params(page).has('from'))
  const from = Date.parse(params(page).get('from')), to = Date.parse(params(page).get('to'))
  assert.ok(to - from > 4 * 36e5 && to - from < 6 * 36e5, `a fifth of a day, got ${(to - from) / 36e5} hours`)
  assert.equal(from % 9e5 + to % 9e5, 0, 'whole steps')
  await ready(page)
  const zoomed = await count(page)
  const api = await ask(page, '/api/v1/query', { from: params(page).get('from'), to: params(page).get('to'), measures: ['requests'] })
  assert.equal(zoomed, api.total[0])

  // A click shows the requests of the step.
  const box = await over.boundingBox()
  await page.mouse.move(box.x + box.width * 0.31, box.y + box.height - 8)
  await page.waitForSelector('#chart-requests .tip')
  const tip = (await page.locator('#chart-requests .tip b').allTextContents()).reduce((n, t) => n + +t, 0)
  await page.mouse.down()
  await page.mouse.up()
  await until('the requests', () => new URL(page.url()).pathname === '/requests')
  await page.waitForSelector('.rows [data-id]')
  assert.equal(Date.parse(params(page).get('to')) - Date.parse(params(page).get('from')), 3e5, 'five minutes')
  await until('the total', async () => +await page.locator('[data-number=requests]').getAttribute('data-value') === tip)
  await until('all rows', async () => await page.locator('.rows').getAttribute('aria-busy') === 'false')
  assert.equal(+await page.locator('.rows table').getAttribute('aria-rowcount'), tip)
  await page.goBack()
  await ready(page)
  await page.click('#chart-errors header button.icon')
  await page.click('#chart-errors .twin tbody button >> nth=0')
  await until('the requests of a row', () => new URL(page.url()).pathname === '/requests')
  page.calm()

  // A model keeps its colour.
  const colours = async () => Object.fromEntries(await page.locator('.breakdown tbody tr').evaluateAll(r => r.map(x => [x.querySelector('button').textContent, getComputedStyle(x.querySelector('.dot')).backgroundColor])))
  await page.goto(new URL(page.url()).origin + '/?lang=en&range=30d')
  await ready(page)
  const month = await colours()
  await page.goto(new URL(page.url()).origin + '/?lang=en&range=1h')
  await ready(page)
  for (const [m, c] of Object.entries(await colours())) assert.equal(c, month[m], `the colour of ${m}`)
  assert.equal(new Set(Object.values(month)).size, Math.min(6, Object.keys(month).length), 'as many colours as models')
}
