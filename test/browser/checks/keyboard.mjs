// Everything can be done without a mouse.

import { assert, enter, ready, sleep, until } from '../lib.mjs'

export default async function () {
  const page = await enter('/?range=24h&lang=en')
  await ready(page)
  const path = () => new URL(page.url()).pathname, param = name => new URL(page.url()).searchParams.get(name)
  const press = async (...keys) => { for (const k of keys) await page.keyboard.press(k) }
  // after presses a key and says where the very next one would go.
  const after = key => page.evaluate(async key => {
    document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }))
    await null // what was to be drawn is drawn by then
    const on = document.activeElement
    return on.id || on.tagName + (on.closest('dialog[open]') ? ' of a dialog' : '')
  }, key)

  assert.equal(await after('?'), 'BUTTON of a dialog')
  await press('g', 'r') // not while the help is open
  assert.equal(path(), '/')
  await press('Escape')
  await until('the help to close', async () => await page.locator('dialog').count() === 0)

  await press('g', 'r')
  assert.equal(path(), '/requests')
  assert.equal(param('range'), '24h', 'the range goes along')
  await page.waitForSelector('.rows [data-id]')
  await press('p') // or new rows move what is looked at
  await page.waitForSelector('button[aria-label=Pause][aria-pressed=true]')
  const ids = () => page.locator('.rows [data-id]').evaluateAll(r => r.map(x => x.dataset.id))
  await until('what is on its way to be there', async () => {
    const before = await ids()
    await sleep(1000)
    return String(before) === String(await ids())
  })
  await press('j', 'j', 'j', 'k')
  const second = (await ids())[1]
  assert.equal(await page.locator('.rows tr.at').getAttribute('data-id'), second)
  await press('Enter')
  await page.waitForSelector('.detail .total')
  assert.equal(param('call'), second)
  await press('j')
  await until('the next one', () => param('call') !== second)
  assert.equal(param('call'), (await ids())[2])
  for (let i = 0; i < 60; i++) await press('j')
  const box = await page.locator('.rows tr.at').boundingBox(), list = await page.locator('.rows').boundingBox()
  assert.ok(box.y >= list.y && box.y + box.height <= list.y + list.height, 'the row that is looked at is in sight')
  await press('Escape')
  await until('the request to close', async () => await page.locator('.detail').count() === 0)

  assert.equal(await after('/'), 'filter')
  await page.keyboard.type('gpt j k g o') // letters, not commands
  assert.equal(path(), '/requests')
  await until('the search', () => param('q') === 'gpt j k g o')
  await press('Escape')
  assert.ok(await page.evaluate(() => document.activeElement.id !== 'filter'))
  await press('g', 'o')
  assert.equal(path(), '/')
  assert.equal(await after('/'), 'filter', 'of the other page')
  assert.equal(path(), '/requests')

  // Tab reaches every control, and where it is can be seen.
  await page.goto(new URL(page.url()).origin + '/?range=24h')
  await ready(page)
  await page.evaluate(() => document.activeElement.blur())
  const names = new Set()
  for (let i = 0; i < 80; i++) {
    await press('Tab')
    const at = await page.evaluate(() => {
      const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect()
      return { tag: e.tagName, name: e.getAttribute('aria-label') || e.textContent.trim().slice(0, 30), ring: s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 1, size: r.width * r.height }
    })
    if (at.tag === 'BODY') break
    assert.ok(at.ring && at.size > 0, `no focus ring is to be seen on ${at.tag} ${at.name}`)
    names.add(at.name)
  }
  for (const want of ['Skip to content', 'Overview', 'Requests', 'Limits', 'Time zone', 'Model', '15m', 'Step', 'Show as table: Requests', '5xx', 'First token', 'Provider']) assert.ok(names.has(want), `Tab never came to ${want}: ${[...names].join(', ')}`)
  await page.focus('.skip')
  await press('Enter')
  assert.equal(await page.evaluate(() => document.activeElement.id), 'main', 'the skip link leads to the content')
  page.calm()
}
