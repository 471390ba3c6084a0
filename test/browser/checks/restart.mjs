// The server goes and comes back: the page says so, and goes on by itself.

import { assert, enter, ready, site, tell, until } from '../lib.mjs'

export default async function () {
  const overview = await enter('/?range=1h&lang=en'), list = await enter('/requests?range=1h&lang=ko')
  const past = await enter(`/?lang=en&from=${new Date(Date.now() - 36e5).toISOString()}&to=${new Date(Date.now() - 18e5).toISOString()}`)
  await ready(overview)
  const state = p => p.locator('.link-state').textContent()
  await until('the live line', async () => await state(overview) === 'Live' && await state(list) === '실시간')
  await tell('stop')
  const gone = Date.now()
  await until('the word that it is gone', async () => await state(overview) === 'Offline' && await state(list) === '연결 끊김', 5000)
  console.log(`the page said so after ${Date.now() - gone} ms`)
  assert.equal(await overview.locator('[data-number=in_flight]').textContent(), '–', 'what is not known is not shown')
  await past.click('.segments button:text-is("6h")')
  await until('the reason', async () => /No connection/.test(await past.locator('.problem').textContent()))
  await tell('start')
  const back = Date.now()
  await until('the live line again', async () => await state(overview) === 'Live' && await state(list) === '실시간', 15_000)
  console.log(`and was live again after ${Date.now() - back} ms`)
  await until('the failure to go away', async () => await past.locator('.problem').count() === 0, 15_000)
  await ready(past)
  // Still signed in, and what happened meanwhile is there.
  const n = +await overview.locator('[data-number=requests]').getAttribute('data-value')
  await tell('import')
  await until('what came since', async () => {
    await fetch(site.url + '/v1/chat/completions', { method: 'POST', headers: { Authorization: 'Bearer ' + site.admin }, body: '{"model":"nobody-has-this","messages":[]}' }).then(r => r.text())
    return +await overview.locator('[data-number=requests]').getAttribute('data-value') > n + 5
  })
  for (const p of [overview, list, past]) p.calm(/ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET/)
}
