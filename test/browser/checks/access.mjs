// axe finds nothing on any page, state, theme and language; nothing is wider
// than the window.

import { accessible, assert, enter, ready, site, until } from '../lib.mjs'

export default async function () {
  const looks = [['light', 'en', 1440], ['dark', 'en', 1440], ['light', 'ko', 1440], ['dark', 'ko', 1440], ['light', 'ko', 1024], ['dark', 'en', 1024], ['light', 'en', 390], ['dark', 'ko', 390]]
  for (const [scheme, locale, width] of looks) {
    const height = { 1440: 900, 1024: 768, 390: 844 }[width]
    const o = { scheme, locale, width, height, zone: 'Asia/Seoul' }
    const where = `${scheme} ${locale} ${width}`
    const page = await enter('/?range=24h&by=key', o)
    await ready(page)
    assert.equal(await page.evaluate(() => document.documentElement.lang), locale)
    assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), scheme)
    await check(page, `overview, ${where}`)
    await to(page, '/?range=24h&table=chart-requests&table=chart-errors&table=chart-latency&table=chart-tokens&table=chart-cost&first=1')
    await ready(page)
    await check(page, `overview as tables, ${where}`)
    await to(page, '/?range=24h&model=nobody&tag=env:prod')
    await ready(page)
    await page.click('.custom summary')
    await check(page, `nothing matches, and the form of the range, ${where}`)
    await to(page, '/requests?range=24h')
    await page.waitForSelector('.rows [data-id]')
    await check(page, `requests, ${where}`)
    const call = await page.locator('.rows [data-id]').nth(3).getAttribute('data-id')
    await page.click(`[data-id="${call}"]`)
    await page.waitForSelector('.detail .total')
    await check(page, `a request, ${where}`)
    await to(page, '/requests?range=24h&code=429')
    await page.waitForSelector('.rows [data-id]')
    await page.click('.rows [data-id]')
    await page.waitForSelector('.detail .total')
    await check(page, `a failed request, ${where}`)
    await to(page, '/keys')
    await page.waitForSelector('#keys[aria-busy=false] tbody tr')
    await check(page, `keys, ${where}`)
    await page.click('.bar .primary')
    await page.waitForSelector('dialog[open]')
    await check(page, `the form of a key, ${where}`)
    await page.keyboard.press('Escape')
    await page.waitForSelector('dialog', { state: 'detached' })
    await to(page, '/limits')
    await page.waitForSelector('#limits[aria-busy=false] #providers')
    await check(page, `limits, ${where}`)
    await page.keyboard.press('?')
    await page.waitForSelector('dialog[open]')
    await check(page, `help, ${where}`)
    page.calm()
    const out = await enter('/', { ...o, key: '' })
    await out.waitForSelector('form')
    await check(out, `signed out, ${where}`)
    await out.fill('input[type=password]', 'wrong')
    await out.click('button.primary')
    await until('the refusal', () => out.locator('.bad').textContent())
    await check(out, `a wrong key, ${where}`)
    out.calm(/401/)
    for (const [url, key] of [[site.empty, site.emptyKey], [site.broken, site.brokenKey]]) for (const path of ['/', '/requests']) {
      const p = await enter(path, { ...o, url, key })
      await p.waitForSelector(url === site.empty ? '.empty' : '.problem')
      await check(p, `${path} of ${url === site.empty ? 'an empty store' : 'a store that fails'}, ${where}`)
      p.calm(/503/)
      await p.context().close()
    }
    await page.context().close()
    await out.context().close()
  }
}

async function to(page, path) {
  await page.goto(new URL(page.url()).origin + path)
}

async function check(page, what) {
  await accessible(page, what)
  const { scroll, client, wide } = await page.evaluate(() => {
    const d = document.documentElement
    const wide = [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll,.rows,.u-wrap,.unseen,pre,.raw')).slice(0, 3).map(e => e.outerHTML.slice(0, 120))
    return { scroll: d.scrollWidth, client: d.clientWidth, wide }
  })
  assert.ok(scroll <= client, `${what}: the page is ${scroll} px wide in a window of ${client}: ${wide.join('\n')}`)
  // Figures and titles are never cut off.
  const cut = await page.evaluate(() => [...document.querySelectorAll('.headline .big, .headline dt, .card h2, .strip dd, nav a, .segments button')].filter(e => e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0).map(e => e.textContent))
  assert.deepEqual(cut, [], `${what}: cut off`)
}
