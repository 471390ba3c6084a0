// Who may see what, and how a page says so.

import { assert, enter, ready, site, until } from '../lib.mjs'

export default async function () {
  const page = await enter('/?lang=en', { key: 'sg-no-such-key' })
  await until('the refusal', async () => (await page.locator('#signin-error').textContent()) === 'This key is not known.')
  assert.ok(!page.url().includes('sg-no-such-key'), 'the key has left the address')
  await page.fill('input[type=password]', site.metricsKey)
  await page.click('button.primary')
  await until('the second refusal', async () => /nothing else/.test(await page.locator('#signin-error').textContent()))
  await page.fill('input[type=password]', site.key)
  await page.click('button.primary')
  await ready(page)
  assert.equal(await page.locator('select[aria-label=Key]').count(), 0, 'a data key has no choice of keys')
  assert.equal(await page.locator('[data-number=in_flight]').count(), 0, 'nor sees what others do')
  assert.ok(!(await page.evaluate(() => JSON.stringify(localStorage) + document.cookie)).includes(site.key), 'the page keeps no key')
  page.calm(/401/, /403/)

  // Two pages of one browser: signed out in one, the other asks anew.
  const admin = await enter('/requests?range=24h&lang=en')
  await admin.waitForSelector('.rows [data-id]')
  const other = await admin.context().newPage()
  await other.goto(site.url + '/?lang=en')
  await ready(other)
  await other.click('button[aria-label="Sign out"]')
  await other.waitForSelector('.signin')
  await admin.locator('.rows [data-id]').first().click()
  await admin.waitForSelector('.signin')
  admin.calm(/401/)

  // A link with the key signs in, and leaves nothing of it.
  const link = await enter('/?range=6h&lang=ko')
  await ready(link)
  assert.equal(new URL(link.url()).hash, '')
  assert.equal(new URL(link.url()).searchParams.get('range'), '6h')
  link.calm()
}
