// node screenshot.mjs makes the pictures of the README anew: a day of the demo's
// traffic, light and dark. It needs Go, Chromium and npm ci.

import { execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { assert, ask, closeBrowser, enter, ready, sleep } from './lib.mjs'

const root = fileURLToPath(new URL('../..', import.meta.url))
const most = 300_000 // bytes of a picture
const dir = mkdtempSync(join(tmpdir(), 'sheepgate-'))
const binary = join(dir, 'sheepgate')
execFileSync('go', ['build', '-o', binary, './cmd/sheepgate'], { cwd: root, stdio: 'inherit' })
const demo = spawn(binary, ['demo', '--listen', '127.0.0.1:0', '--json'], { stdio: ['ignore', 'pipe', 'inherit'] })
try {
  const { value } = await createInterface({ input: demo.stdout })[Symbol.asyncIterator]().next()
  const { url, admin_key: key } = JSON.parse(value)
  for (const scheme of ['light', 'dark']) {
    const page = await enter('/?range=24h&lang=en', { url, key, scheme, zone: 'UTC' })
    await ready(page)
    for (let last = -1; ;) { // until the past is in
      const { total: [n] } = await ask(page, '/api/v1/query', { from: new Date(Date.now() - 31 * 864e5).toISOString(), to: new Date(Date.now() - 20 * 864e5).toISOString(), measures: ['requests'] })
      if (n > 0 && n === last) break
      last = n
      await sleep(1000)
    }
    await page.reload()
    await ready(page)
    await sleep(2500) // a few live calls
    const file = join(root, 'docs', scheme === 'dark' ? 'screenshot-dark.png' : 'screenshot.png')
    await page.screenshot({ path: file })
    const { size } = statSync(file)
    assert.ok(size < most, `${file} is ${size} bytes`)
    console.log(file, size)
    page.calm()
  }
} finally {
  demo.kill('SIGTERM')
  await new Promise(r => demo.once('exit', r))
  await closeBrowser()
  rmSync(dir, { recursive: true })
}
process.exit()
