// Thousands of rows: the list is the API's, whole and in order, and draws only
// what is in sight.

import { ask, assert, enter, site, until } from '../lib.mjs'

export default async function () {
  const page = await enter('/requests?range=7d&lang=en')
  await page.waitForSelector('.rows [data-id]')
  const want = []
  for (let cursor = ''; ;) {
    const p = await ask(page, `/api/v1/calls?limit=1000&from=${new Date(Date.now() - 7 * 864e5).toISOString()}&cursor=${encodeURIComponent(cursor)}`)
    want.push(...p.calls.map(c => c.id))
    if (!(cursor = p.next)) break
  }
  assert.equal(want.length, site.rows)
  assert.equal(await page.locator('[data-number=requests]').textContent().then(t => +t.replaceAll(',', '')), site.rows)
  const seen = new Map() // row number to id
  const rows = page.locator('.rows')
  let most = 0
  const look = async () => {
    const got = await page.locator('.rows tr[data-id]').evaluateAll(r => r.map(x => [+x.getAttribute('aria-rowindex'), x.dataset.id]))
    most = Math.max(most, got.length)
    for (const [i, id] of got) {
      assert.ok(!seen.has(i) || seen.get(i) === id, `row ${i} was ${seen.get(i)} and is ${id}`)
      seen.set(i, id)
    }
  }
  const begun = Date.now()
  for (;;) {
    await look()
    const end = await rows.evaluate(e => { e.scrollTop += e.clientHeight * 0.8; return e.scrollTop + e.clientHeight >= e.scrollHeight - 1 })
    await page.evaluate(() => new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))) // drawn where it is now
    if (end && (await rows.textContent()).includes('That is all in this range.')) break
    if (end) await until('the next page', async () => await rows.getAttribute('aria-busy') === 'false')
  }
  await look()
  console.log(`${seen.size} rows in ${Date.now() - begun} ms, at most ${most} drawn at once`)
  assert.deepEqual([...seen].sort((a, b) => a[0] - b[0]).map(x => x[1]), want)
  assert.ok(most < 120, `${most} rows were drawn at once`)
  page.calm()

  // On a phone, too, and by another filter.
  const phone = await enter('/requests?range=7d&model=gpt-4.1&lang=ko', { width: 390, height: 844 })
  await phone.waitForSelector('.rows [data-id]')
  const box = phone.locator('.rows')
  await until('the end', async () => {
    await box.evaluate(e => { e.scrollTop = e.scrollHeight })
    return (await box.textContent()).includes('이 기간의 마지막입니다.')
  }, 60_000)
  const api = await ask(phone, '/api/v1/query', { from: new Date(Date.now() - 7 * 864e5).toISOString(), to: new Date().toISOString(), filter: { model: ['gpt-4.1'] }, measures: ['requests'] })
  assert.equal(+await box.locator('table').getAttribute('aria-rowcount'), api.total[0])
  phone.calm()
}
