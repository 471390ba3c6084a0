// A page that has nothing, waits, or cannot have what it wants says so; and the
// call that it proposes works.

import { execFileSync } from 'node:child_process'
import { assert, enter, ready, site, sleep, until } from '../lib.mjs'

export default async function () {
  // An empty store proposes a call. It works, with a key in the place of the
  // placeholder, and is there within two seconds.
  const empty = await enter('/?lang=en', { url: site.empty, key: site.emptyKey })
  await empty.waitForSelector('.empty pre')
  await empty.click('.empty button')
  const command = await empty.evaluate(() => navigator.clipboard.readText())
  assert.equal(command, await empty.locator('.empty pre').textContent())
  const answer = execFileSync('sh', ['-c', command.replace('curl ', 'curl -s ').replace('YOUR_KEY', site.emptyKey)], { encoding: 'utf8' })
  assert.match(answer, /"choices"/, `the proposed call was answered with ${answer}`)
  await until('the call', async () => await empty.locator('[data-number=requests]').getAttribute('data-value') === '1', 2000)
  await empty.waitForSelector('#chart-requests')
  empty.calm()

  // While the server is slow, the page says what it waits for.
  const slow = await enter('/?lang=en', { key: '' })
  await slow.waitForSelector('.signin')
  await slow.route('**/api/v1/query', async r => { await sleep(1500); await r.continue() })
  await slow.fill('input[type=password]', site.admin)
  await slow.click('button.primary')
  await slow.waitForSelector('.skeleton[role=status]')
  assert.match(await slow.locator('.skeleton').textContent(), /Loading/)
  await ready(slow)
  slow.calm()

  // A store that fails is named, and asked again.
  const broken = await enter('/?lang=en', { url: site.broken, key: site.brokenKey })
  await until('the reason', async () => /store cannot answer/.test(await broken.locator('.problem').textContent()))
  let asked = 0
  broken.on('request', r => { if (r.url().endsWith('/api/v1/query')) asked++ })
  await until('another try', () => asked > 0, 8000)
  await broken.click('text=Requests')
  await until('the reason there', async () => /store cannot answer/.test(await broken.locator('.problem').textContent()))
  broken.calm(/503/)

  // The policy holds: neither inline script, nor eval, nor another origin.
  const page = await enter('/?lang=en')
  await ready(page)
  page.calm()
  const held = await page.evaluate(async () => {
    const broke = []
    addEventListener('securitypolicyviolation', e => broke.push(e.effectiveDirective))
    const s = document.createElement('script')
    s.textContent = 'window.inline = true'
    document.body.append(s)
    const i = new Image()
    i.src = 'https://example.com/x.png'
    await fetch('https://example.com/').catch(() => {})
    await new Promise(r => setTimeout(r, 200))
    return { inline: window.inline === true, broke }
  })
  assert.equal(held.inline, false)
  assert.deepEqual([...new Set(held.broke)].sort(), ['connect-src', 'img-src', 'script-src-elem'])

  // Who wants no motion gets none; who has a dark system a dark page.
  const calm = await enter('/?lang=en', { motion: 'reduce', scheme: 'dark' })
  await ready(calm)
  assert.equal(await calm.evaluate(() => document.documentElement.dataset.theme), 'dark')
  assert.deepEqual(await calm.evaluate(() => [...document.querySelectorAll('*')].filter(e => { const s = getComputedStyle(e); return s.animationName !== 'none' || parseFloat(s.transitionDuration) > 0 }).length), 0)
  const before = await calm.evaluate(() => getComputedStyle(document.body.parentElement).backgroundColor)
  await calm.click('button[aria-label^="Theme"]')
  assert.notEqual(await calm.evaluate(() => getComputedStyle(document.body.parentElement).backgroundColor), before, 'the theme turns')
  calm.calm()
}
