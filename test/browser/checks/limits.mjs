// What the page of limits says is what the API says: how full each limit and
// budget is, what providers have left, forecasts and marks.

import { accessible, ask, assert, enter, same, shown as number, site, sleep, tell, text, until } from '../lib.mjs'

const call = (key, model, more = {}) => fetch(site.url + '/v1/chat/completions', {
  method: 'POST', headers: { Authorization: 'Bearer ' + key, 'Content-Type': 'application/json' }, body: JSON.stringify({ model, max_tokens: 16, messages: [{ role: 'user', content: 'Hello' }], ...more }),
}).then(r => r.status)

const rates = { rpm: 'requests', tpm: 'tokens', input_tpm: 'input_tokens', output_tpm: 'output_tokens', concurrent: 'concurrent' }

export default async function () {
  // Nothing is bounded yet: the page says how to.
  const none = await enter('/limits?lang=en', { url: site.free })
  await none.waitForSelector('.empty pre')
  await accessible(none, 'no limits')
  await none.click('.empty .code button')
  await until('the copy', async () => /^keys:\n {2}team-a:[^]*budget: \[\$20\/day/.test(await none.evaluate(() => navigator.clipboard.readText())))
  none.calm()
  const own = await enter('/limits?lang=ko', { url: site.free, key: site.key })
  await own.waitForSelector('.empty')
  assert.equal(await own.locator('.empty h2').innerText(), text('ko').limits_none_own)
  assert.equal(await own.locator('#providers').count(), 0)
  own.calm()

  const page = await enter('/?lang=en&range=1h')
  await page.waitForSelector('nav')
  await page.keyboard.press('g')
  await page.keyboard.press('l')
  await settled(page)
  assert.equal(new URL(page.url()).pathname, '/limits')
  assert.equal(await page.title(), 'Limits · Sheepgate')

  // Traffic of all kinds: answers, two that are refused, failures, one without room, one under way.
  for (let i = 0; i < 24; i++) assert.equal(await call(site.batchKey, 'gpt-4.1-mini'), 200)
  for (let i = 0; i < 5; i++) assert.equal(await call(site.batchKey, 'o4-mini'), 502)
  assert.equal(await call(site.batchKey, 'gpt-4.1-nano'), 429)
  for (let i = 0; i < 2; i++) assert.equal(await call(site.key, 'gpt-4.1'), 200)
  const held = call(site.key, 'gpt-4o', { max_tokens: 1000 })
  await until('the call under way', async () => (await api(page)).rules.find(r => r.rule === 'key team-a').concurrent.used === 1)
  assert.equal(await call(site.key, 'gpt-4.1', { max_tokens: 30_000 }), 429, 'the budget has less left')

  // All numbers are the API's.
  await agree(page)
  const rules = await api(page).then(a => Object.fromEntries(a.rules.map(r => [r.rule, r])))
  const a = rules['key team-a'], day = a.budgets.find(b => b.period === 'day')
  assert.ok(day.spent_nano_usd > 0.9e9 && day.reserved_nano_usd > 0 && a.refused === 1 && a.over_tokens > 0, JSON.stringify(a))
  const bound = (rule, id) => page.locator(`[data-rule="${rule}"] [data-bound="${id}"]`)
  assert.match(await bound('key team-a', 'budget_day').getAttribute('class'), /high/)
  assert.match(await bound('key team-a', 'budget_day').innerText(), /reserved[^]*resets in/)
  assert.match(await bound('key team-a', 'budget_day').locator('[data-number=exhausted]').innerText(), /^at this rate used up in \d+ (second|minute)s?$/)
  assert.equal(await bound('team search', 'budget_total').locator('[data-number=resets]').count(), 0)
  assert.equal(await page.locator('[data-rule="rule gpt at openai"] .who .note').first().innerText(), 'Provider openai · Model gpt-4.1')
  const health = model => page.locator(`[data-model="${model}"] [data-state]`)
  assert.equal(await health('gpt-4.1').innerText(), 'Healthy')
  await until('the breaker', async () => /Open|Half-open/.test(await health('o4-mini').innerText()))
  assert.match(await page.locator('[data-model="gpt-4.1-nano"] [data-number=cooling]').innerText(), /^back in \d+ seconds$/)
  assert.deepEqual(await page.locator('[data-model="gpt-4.1-nano"] [data-room]').allInnerTexts(), ['–', '–', '–', '–'])
  assert.equal(await page.locator('[data-model="gpt-4o"] [data-number=in_flight]').innerText(), '1')
  await accessible(page, 'limits')

  // What is over leaves by itself, without a reload.
  await tell('release')
  assert.equal(await held, 200)
  await until('the end of the call', async () => await bound('key team-a', 'concurrent').locator('[data-number=used]').innerText() === '0')
  assert.equal(await bound('key team-a', 'budget_day').locator('[data-number=reserved]').count(), 0)

  // A budget that is used up says so.
  assert.equal(await call(site.key, 'gpt-4.1'), 200)
  await until('the mark', async () => (await page.locator('#events [data-number=percent]').allInnerTexts()).join() === '100%,90%,80%')
  assert.match(await bound('key team-a', 'budget_day').innerText(), /used up/)
  assert.match(await bound('key team-a', 'budget_day').getAttribute('class'), /full/)
  assert.equal(await page.locator('[data-rule]').first().getAttribute('data-rule'), 'key team-a', 'the fullest is the first')
  await agree(page)

  // A name leads to its requests.
  await page.click('[data-rule="key team-a"] h3 button')
  await page.waitForSelector('.rows [data-id]')
  assert.equal(new URL(page.url()).searchParams.get('key'), 'team-a')
  page.calm()

  // In Korean, dark, and on a telephone.
  const ko = await enter('/limits?lang=ko', { scheme: 'dark', width: 360, height: 800, zone: 'Asia/Seoul' })
  await settled(ko)
  await agree(ko)
  assert.equal(await ko.locator('nav a[aria-current]').innerText(), text('ko').limits)
  await accessible(ko, 'limits, Korean, dark, narrow')
  await narrow(ko)
  ko.calm()
  const slim = await enter('/limits?lang=en', { width: 360, height: 800 })
  await settled(slim)
  await narrow(slim)

  // Everything is reached by Tab, and seen.
  await slim.evaluate(() => document.activeElement.blur())
  const names = new Set()
  for (let i = 0; i < 40; i++) {
    await slim.keyboard.press('Tab')
    const at = await slim.evaluate(() => { const e = document.activeElement, s = getComputedStyle(e); return { tag: e.tagName, name: e.getAttribute('aria-label') || e.textContent, ring: s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 1 } })
    if (at.tag === 'BODY') break
    assert.ok(at.ring, `no focus ring on ${at.tag} ${at.name}`)
    names.add(at.name)
  }
  for (const want of ['Limits', 'team-a', 'search', 'Providers', 'Budget marks', 'Forecast of answers']) assert.ok(names.has(want), `Tab never came to ${want}: ${[...names]}`)

  // What cannot be had is said; the last numbers stay, and are asked for again.
  let fail = true
  await slim.route('**/api/v1/limits', r => fail ? r.fulfill({ status: 503, json: { error: { message: 'busy', code: 'overloaded' } } }) : r.continue())
  await slim.waitForSelector('.problem')
  assert.ok((await slim.locator('.problem').innerText()).includes(text('en').stale))
  assert.ok(await slim.locator('[data-rule]').count() > 0)
  fail = false
  await slim.waitForSelector('.problem', { state: 'detached' })
  slim.calm(/503/)

  // The holder of a key sees what is about it, and nothing of providers.
  const mine = await enter('/limits?lang=en', { key: site.key })
  await settled(mine)
  await agree(mine)
  assert.deepEqual((await mine.locator('[data-rule]').evaluateAll(l => l.map(r => r.dataset.rule))).sort(), ['key team-a', 'team search'])
  assert.equal(await mine.locator('#providers, #forecasts').count(), 0)
  assert.equal(await mine.locator('#events tbody tr').count(), 3)
  await accessible(mine, 'limits of a key')

  // It asks at most once a second, and not for nothing.
  let asked = 0
  mine.on('request', r => { if (r.url().endsWith('/api/v1/limits')) asked++ })
  await sleep(5000)
  assert.ok(asked >= 1 && asked <= 5, `asked ${asked} times in five seconds`)
  mine.calm()
}

const settled = page => page.waitForSelector('#limits[aria-busy=false]')
const api = page => ask(page, '/api/v1/limits')

// agree waits until the page shows what the API says, to the last number.
async function agree(page) {
  await until('the page to agree with the API', async () => {
    const a = await api(page)
    const shown = await page.evaluate(() => {
      const numbers = e => Object.fromEntries([...e.querySelectorAll('[data-number]')].map(n => [n.dataset.number, n.innerText]))
      const all = (q, f) => [...document.querySelectorAll(q)].map(f)
      return {
        rules: all('[data-rule]', r => ({ name: r.dataset.rule, ...numbers(r.querySelector('.who')), bounds: Object.fromEntries([...r.querySelectorAll('[data-bound]')].map(b => [b.dataset.bound, numbers(b)])) })),
        providers: all('#providers tbody tr', r => ({ model: r.dataset.model, ...numbers(r), rooms: Object.fromEntries([...r.querySelectorAll('[data-room]')].map(b => [b.dataset.room, numbers(b).remaining])) })),
        forecasts: all('#forecasts tbody tr', r => ({ model: r.dataset.model, ...numbers(r) })),
        events: all('#events tbody tr', r => ({ rule: r.dataset.event, ...numbers(r) })),
      }
    })
    assert.deepEqual(shown.rules.map(r => r.name).sort(), a.rules.map(r => r.rule).sort())
    const full = shown.rules.map(r => Math.max(...Object.values(r.bounds).map(b => parseFloat(b.share.replace(/[,<]/g, '')))))
    assert.deepEqual(full, full.toSorted((x, y) => y - x), 'the fullest first')
    for (const r of a.rules) {
      const s = shown.rules.find(x => x.name === r.rule)
      for (const [id, of] of Object.entries(rates)) {
        if (!r[of].limit) { assert.equal(s.bounds[id], undefined); continue }
        same(s.bounds[id].used, r[of].used, `${r.rule} ${id}`)
        same(s.bounds[id].limit, r[of].limit, `${r.rule} ${id}, its limit`)
      }
      for (const b of r.budgets) {
        const m = s.bounds['budget_' + b.period]
        same(m.used, b.spent_nano_usd, `${r.rule} ${b.period}`)
        same(m.limit, b.amount_nano_usd, `${r.rule} ${b.period}, its amount`)
        if (b.reserved_nano_usd) assert.ok(m.reserved)
      }
      assert.equal(!!s.refused, r.refused > 0)
      assert.equal(!!s.over, r.over_tokens > 0 || r.over_nano_usd > 0)
    }
    assert.equal(shown.providers.length, a.providers.length)
    a.providers.forEach((d, i) => {
      const s = shown.providers[i]
      assert.equal(s.model, d.model)
      same(s.in_flight, d.in_flight, d.model + ' in flight')
      same(s.latency, d.latency_ms || null, d.model + ' latency')
      same(s.ttft, d.ttft_ms || null, d.model + ' first token')
      for (const r of d.limits) assert.ok(Math.abs(number(s.rooms[r.kind]).value - r.remaining) <= r.limit * 0.06, `${d.model} ${r.kind}`) // it refills
      assert.equal(Object.values(s.rooms).filter(Boolean).length, d.limits.length)
    })
    assert.deepEqual(shown.events.map(e => [e.rule, parseInt(e.percent)]), a.events.map(e => [e.rule, e.percent]))
    for (const s of shown.forecasts) {
      const f = a.forecasts.find(f => f.model === s.model && f.key === '')
      same(s.p50, f.p50, s.model + ' P50')
      same(s.p95, f.p95, s.model + ' P95')
    }
    return true
  })
}

async function narrow(page) {
  const { scroll, client, cut } = await page.evaluate(() => ({ scroll: document.documentElement.scrollWidth, client: document.documentElement.clientWidth, cut: [...document.querySelectorAll('nav a, .card h2, .used, .part')].filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent) }))
  assert.ok(scroll <= client, `${scroll} px in a window of ${client}`)
  assert.deepEqual(cut, [], 'cut off')
}
