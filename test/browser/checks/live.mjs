// What happens is on the page within two seconds, whatever is on it.

import { ask, assert, enter, ready, site, sleep, until } from '../lib.mjs'

async function send(n) {
  const res = await fetch(site.url + '/v1/chat/completions', {
    method: 'POST', headers: { 'Content-Type': 'application/json', Authorization: 'Bearer ' + site.key },
    body: JSON.stringify({ model: 'gpt-4.1', messages: [{ role: 'user', content: 'Hello ' + n }] }),
  })
  await res.text()
  return res
}

export default async function () {
  const overview = await enter('/?range=15m&key=demo&lang=en'), list = await enter('/requests?range=15m&key=demo&lang=ko')
  await ready(overview)
  const count = () => overview.locator('[data-number=requests]').getAttribute('data-value').then(Number)
  const rows = () => list.locator('.rows [data-id]').count()
  const before = await count()
  const took = []
  for (let n = 1; n <= 5; n++) {
    const res = await send(n), ended = Date.now(), id = res.headers.get('sheepgate-call-id')
    await until('the row of the call', () => list.locator(`[data-id="${id}"]`).count(), 5000)
    const row = Date.now() - ended
    await until('the count of the overview', async () => await count() === before + n, 5000)
    took.push({ row, count: Date.now() - ended })
    await sleep(300 * n) // out of step with the server's ticks
  }
  console.log('ms until a call was on the page:', JSON.stringify(took))
  for (const t of took) assert.ok(t.row <= 2000 && t.count <= 2000, `a call took ${t.row} ms to the list and ${t.count} ms to the overview, more than 2000`)
  assert.equal(await rows(), before + 5)

  // The traffic of all keys moves, and what is shown is what the API said.
  const all = await enter('/?range=15m&lang=ko')
  await ready(all)
  const seen = new Set()
  await until('three different counts', async () => {
    seen.add(await all.locator('[data-number=requests]').getAttribute('data-value'))
    return seen.size >= 3
  }, 60_000)
  const { from, to, n } = await all.evaluate(() => {
    const d = document.getElementById('numbers').dataset
    return { ...d, n: +document.querySelector('[data-number=requests]').dataset.value }
  })
  const api = await ask(all, '/api/v1/query', { from, to, measures: ['requests'] })
  assert.ok(api.total[0] >= n && api.total[0] - n <= 25, `the page shows ${n} calls; of the same range the API now knows ${api.total[0]}`) // those that ended since
  assert.ok(+await all.locator('[data-number=in_flight]').getAttribute('data-value') >= 0)

  // Paused, the list stands still and counts what it misses.
  const busy = await enter('/requests?range=15m&lang=en')
  await ready(busy)
  await busy.keyboard.press('p')
  const still = await busy.locator('.rows [data-id]').first().getAttribute('data-id')
  await until('a count of what is missed', async () => /\d+ new/.test(await busy.locator('button[aria-label=Pause]').textContent()))
  assert.equal(await busy.locator('.rows [data-id]').first().getAttribute('data-id'), still)
  await busy.keyboard.press('p')
  await until('newer rows', async () => await busy.locator('.rows [data-id]').first().getAttribute('data-id') !== still)
  for (const p of [overview, list, all, busy]) p.calm()
}
