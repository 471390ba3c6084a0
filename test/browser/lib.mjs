// What the checks share: a browser, a page that is watched, and the API as the
// page itself would ask it.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { chromium } from 'playwright-core'

export { assert }

const env = JSON.parse(process.env.SHEEPGATE_BROWSER ?? '{}')
export const site = env // url, admin, key and what else the Go test gives

const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']

export const open = () => chromium.launch({ executablePath: env.chromium ?? '/usr/bin/chromium', args: flags })

let browser
export async function closeBrowser() { await browser?.close() }

// enter opens a page in a browser profile of its own and signs in. Whatever the
// page says on its console, fails at or asks of another server is remembered;
// calm fails unless there was nothing.
export async function enter(path, o = {}) {
  browser ??= await open()
  const context = await browser.newContext({
    viewport: { width: o.width ?? 1440, height: o.height ?? 900 }, colorScheme: o.scheme ?? 'light', locale: o.locale ?? 'en-US', timezoneId: o.zone ?? 'UTC',
    reducedMotion: o.motion, hasTouch: o.touch, permissions: ['clipboard-read', 'clipboard-write'],
  })
  if (o.init) await context.addInitScript(o.init)
  const page = await context.newPage()
  page.setDefaultTimeout(60_000)
  const said = []
  const origin = new URL(o.url ?? env.url).origin
  page.on('console', m => { if (['error', 'warning'].includes(m.type())) said.push(`${m.type()}: ${m.text()}`) })
  page.on('pageerror', e => said.push(`exception: ${e.stack}`))
  page.on('request', r => { if (new URL(r.url()).origin !== origin && !r.url().startsWith('data:')) said.push(`request to ${r.url()}`) })
  page.on('response', r => {
    if (r.request().resourceType() === 'document' && !/default-src 'self'/.test(r.headers()['content-security-policy'] ?? '')) said.push(`no policy on ${r.url()}`)
  })
  page.calm = (...allowed) => {
    const left = said.splice(0).filter(s => !allowed.some(a => a.test(s)))
    assert.deepEqual(left, [], 'the page complained')
  }
  const key = o.key === undefined ? env.admin : o.key
  await page.goto(origin + path + (key ? '#key=' + key : ''))
  return page
}

// ready waits until the numbers of the address are on the page.
export async function ready(page) {
  await page.waitForSelector('#numbers[aria-busy="false"], .rows[aria-busy="false"]')
  await page.waitForFunction(() => !document.querySelector('.stale'))
}

// ask asks the API with the page's own session.
export const ask = (page, path, body) => page.evaluate(async ([path, body]) => {
  const res = await fetch(path, body === undefined ? {} : { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) })
  if (!res.ok) throw new Error(path + ': ' + res.status + ' ' + await res.text())
  return res.json()
}, [path, body])

// shown reads a number as a person reads it, and how far it may be off.
export function shown(text) {
  const t = text.trim().replaceAll(',', '')
  const m = /^<?\$?(-?\d+(?:\.\d+)?)\s*(K|M|B|T|천|만|억|조)?\s*(%|ms|s|min|초|분)?$/.exec(t)
  assert.ok(m, `"${text}" is not a number`)
  const scale = ({ K: 1e3, M: 1e6, B: 1e9, T: 1e12, 천: 1e3, 만: 1e4, 억: 1e8, 조: 1e12 }[m[2]] ?? 1) * ({ '%': 0.01, s: 1000, min: 60_000, 초: 1000, 분: 60_000 }[m[3]] ?? 1) * (t.includes('$') ? 1e9 : 1)
  const decimals = m[1].split('.')[1]?.length ?? 0
  return { value: +m[1] * scale, unit: scale * 10 ** -decimals }
}

// same fails unless text shows value to its last digit.
export function same(text, value, what) {
  if (value === null) { assert.equal(text.trim(), '–', what); return }
  const s = shown(text)
  if (text.includes('<')) { assert.ok(value < s.value, `${what}: shown ${text}, is ${value}`); return }
  assert.ok(Math.abs(s.value - value) <= s.unit * 0.500001, `${what}: shown ${text}, is ${value}`)
}

const axeSource = readFileSync(new URL('./node_modules/axe-core/axe.min.js', import.meta.url), 'utf8')

// accessible fails on whatever axe finds against WCAG 2.1 A and AA.
export async function accessible(page, what) {
  await page.evaluate(axeSource) // not a script of the page: its policy stays in force
  const found = await page.evaluate(() => axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'], resultTypes: ['violations'] }))
  const lines = found.violations.map(v => `${v.id}: ${v.help}\n` + v.nodes.slice(0, 4).map(n => `    ${n.html.slice(0, 160)}\n    ${n.failureSummary?.replaceAll('\n', ' ')}`).join('\n'))
  assert.deepEqual(lines, [], `axe on ${what}:\n${lines.join('\n')}`)
}

// until tries something again until it holds.
export async function until(what, f, timeout = 30_000) {
  const end = Date.now() + timeout
  let last
  for (;;) {
    try {
      const got = await f()
      if (got) return got
      last = undefined
    } catch (e) { last = e }
    if (Date.now() > end) throw new Error(`waited in vain for ${what}${last ? ': ' + last.message : ''}`)
    await new Promise(r => setTimeout(r, 50))
  }
}

export const sleep = ms => new Promise(r => setTimeout(r, ms))

// tell asks the Go test to do something, and waits until it has.
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
export async function tell(order) {
  console.log('@' + order)
  const { value } = await answers.next()
  assert.equal(value, 'ok', `the test could not ${order}`)
}

// text finds the words of a language.
export const text = lang => JSON.parse(readFileSync(new URL(`../../internal/console/ui/lang/${lang}.json`, import.meta.url), 'utf8'))
