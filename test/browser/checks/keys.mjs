// Keys are made, changed, rotated and revoked on their page; what it says is
// what the API and the door say, and a secret is there once.

import { accessible, ask, assert, enter, same, site, text, until } from '../lib.mjs'

const good = async secret => (await fetch(site.url + '/v1/models', { headers: { Authorization: 'Bearer ' + secret } })).status

export default async function () {
  const page = await enter('/requests?lang=en&range=24h&key=team-a')
  await page.waitForSelector('.rows [data-id]')
  await page.keyboard.press('g')
  await page.keyboard.press('k')
  await settled(page)
  assert.equal(new URL(page.url()).pathname, '/keys')
  assert.equal(await page.title(), 'Keys · Sheepgate')
  const row = name => page.locator(`tr[data-key="${name}"]`)
  const cell = async (name, n) => (await row(name).locator('th,td').nth(n).innerText()).trim()

  // Those of the configuration are there, and read only.
  assert.deepEqual(await page.locator('tbody tr').evaluateAll(l => l.map(r => r.dataset.key)), ['grafana', 'team-a'])
  assert.match(await cell('team-a', 0), /config/)
  assert.equal(await row('team-a').locator('.acts button').count(), 0)
  const { month } = await ask(page, '/api/v1/usage?key=team-a')
  assert.ok(month.requests > 0)
  same(await row('team-a').locator('[data-number=requests]').innerText(), month.requests, 'requests of the month')
  same(await cell('team-a', 10), month.cost_nano_usd, 'cost of the month')

  // One is made; what is wrong is said.
  await page.click('text=New key')
  assert.equal(await page.evaluate(() => document.activeElement.name), 'name')
  await page.fill('[name=name]', 'app/one')
  await page.fill('[name=models]', 'gpt-4.1, nosuch-model')
  await page.fill('[name=team]', 'search')
  await page.fill('[name=rpm]', '60')
  await page.fill('[name=budget]', '$200/month, $20/day')
  await page.fill('[name=metadata]', 'owner=kim\nplan=a=b')
  await page.click('dialog .primary')
  await until('the refusal', async () => /nosuch-model/.test(await page.locator('dialog [role=alert]').innerText()))
  await accessible(page, 'a form with a mistake')
  await page.fill('[name=models]', 'gpt-4.1')
  await page.click('dialog .primary')
  const first = await secretOf(page)
  await accessible(page, 'a secret')
  await page.click('dialog .secret button')
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), first)
  await page.click('dialog .primary')
  await page.waitForSelector('dialog', { state: 'detached' })
  await row('app/one').waitFor()
  assert.ok(!(await page.content()).includes(first), 'the secret has left the page')
  assert.ok(!(await page.evaluate(() => JSON.stringify([localStorage, sessionStorage, location.href]))).includes(first), 'and was kept nowhere')
  assert.equal(await cell('app/one', 3), '…' + first.slice(-4))
  assert.equal(await cell('app/one', 7), '60 rpm')
  assert.equal(await cell('app/one', 8), '$200/month, $20/day')
  assert.equal(await good(first), 200)
  const made = await ask(page, '/api/v1/keys/app%2Fone')
  assert.deepEqual([made.team, made.models, made.metadata, made.expires_at], ['search', ['gpt-4.1'], { owner: 'kim', plan: 'a=b' }, null])

  // It is changed: what the form leaves alone stays.
  await row('app/one').locator('[aria-label^=Edit]').click()
  assert.equal(await page.inputValue('[name=metadata]'), 'owner=kim\nplan=a=b')
  await page.fill('[name=rpm]', '')
  await page.fill('[name=concurrent]', '3')
  await page.fill('[name=metadata]', 'owner=lee')
  await page.fill('[name=expires]', '2099-12-31T00:00')
  await page.click('dialog .primary')
  await until('the new limits', async () => await cell('app/one', 7) === '3 at once')
  const changed = await ask(page, '/api/v1/keys/app%2Fone')
  assert.deepEqual([changed.team, changed.models, changed.metadata, changed.expires_at, changed.budget], ['search', ['gpt-4.1'], { owner: 'lee' }, '2099-12-31T00:00:00Z', ['$200/month', '$20/day']])
  await row('app/one').locator('[aria-label^=Edit]').click()
  await page.fill('[name=expires]', '2020-01-01T00:00')
  await page.click('dialog .primary')
  await until('the refusal', async () => /past/.test(await page.locator('dialog [role=alert]').innerText()))
  await page.keyboard.press('g') // is no command while a dialog is open
  await page.keyboard.press('Escape')
  await page.waitForSelector('dialog', { state: 'detached' })

  // It is rotated, with a grace and without.
  const rotate = async grace => {
    await row('app/one').locator('[aria-label^=Rotate]').click()
    await page.selectOption('[name=grace]', grace)
    await page.click('dialog .primary')
    const secret = await secretOf(page)
    await page.keyboard.press('Escape')
    await page.waitForSelector('dialog', { state: 'detached' })
    return secret
  }
  const second = await rotate('1h')
  assert.deepEqual([await good(first), await good(second)], [200, 200])
  await until('the word of two secrets', async () => /two secrets/.test(await cell('app/one', 3)))
  const third = await rotate('')
  assert.deepEqual([await good(first), await good(second), await good(third)], [401, 401, 200])

  // It is revoked when that is meant.
  const focused = await row('app/one').locator('[aria-label^=Revoke]').evaluate(async button => {
    button.click()
    await new Promise(r => setTimeout(r))
    return document.activeElement.textContent
  })
  assert.equal(focused, 'Cancel', 'the careful choice is the first, for the very next key')
  await accessible(page, 'the question whether to revoke')
  await page.keyboard.press('Enter')
  await page.waitForSelector('dialog', { state: 'detached' })
  assert.equal(await good(third), 200)
  await row('app/one').locator('[aria-label^=Revoke]').click()
  await page.click('dialog .danger')
  await until('the word of it', async () => await cell('app/one', 4) === 'Revoked')
  assert.equal(await good(third), 401)
  assert.equal(await row('app/one').locator('.acts button').count(), 0)

  // Search and state are in the address.
  await page.selectOption('select[aria-label=Status]', 'active')
  await until('the active keys', async () => await page.locator('tbody tr').count() === 2)
  await page.selectOption('select[aria-label=Status]', '')
  await page.keyboard.press('Escape')
  await page.locator('h1').evaluate(() => document.activeElement.blur())
  await page.keyboard.press('/')
  await page.keyboard.type('SEARCH') // a team
  await until('the key of the team', async () => String(await page.locator('tbody tr').evaluateAll(l => l.map(r => r.dataset.key))) === 'app/one')
  assert.equal(new URL(page.url()).searchParams.get('find'), 'SEARCH')
  await page.fill('#filter', 'nobody')
  await page.click('text=Clear')
  await until('all keys', async () => await page.locator('tbody tr').count() === 3)
  await row('team-a').locator('th .link').click()
  await page.waitForSelector('.rows [data-id]')
  assert.equal(new URL(page.url()).searchParams.get('key'), 'team-a')
  page.calm(/400/)

  // The holder of a key sees its own.
  const mine = await enter('/keys?lang=ko', { key: site.key })
  await settled(mine)
  assert.match(await mine.locator('#keys').innerText(), /team-a/)
  same(await mine.locator('[data-number=requests]').last().innerText(), (await ask(mine, '/api/v1/usage')).month.requests, 'its own requests')
  assert.equal(await mine.locator('nav a[aria-current]').innerText(), text('ko').key_mine)
  await accessible(mine, 'my key')
  mine.calm()

  // None yet: the page begins one.
  const none = await enter('/keys?lang=ko', { url: site.broken, key: site.brokenKey, scheme: 'dark' })
  await none.waitForSelector('.empty')
  await accessible(none, 'no keys')
  await none.click('.empty .primary')
  await none.fill('[name=name]', 'a')
  await none.click('dialog .primary')
  await secretOf(none)
  none.calm(/503/)
}

async function secretOf(page) {
  const secret = await page.locator('[data-secret]').innerText()
  assert.match(secret, /^sg-[a-z2-7]{52}$/)
  return secret
}

const settled = page => page.waitForSelector('#keys[aria-busy=false]')
