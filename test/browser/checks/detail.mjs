// What is told of one call is the call: its tries, tokens and price, which adds
// up to the cost that is stored.

import { ask, assert, enter, ready, same } from '../lib.mjs'

const nano = s => BigInt(s.replace('$', '').replace('.', '').replaceAll(',', '').padEnd(1, '0'))

export default async function () {
  const page = await enter('/requests?range=30d&lang=en')
  await ready(page) // and signed in
  const { calls } = await ask(page, '/api/v1/calls?limit=1000')
  for (const code of ['429', '5xx', 'canceled', '4xx']) calls.push(...(await ask(page, `/api/v1/calls?limit=20&code=${code}`)).calls)
  for (let cursor = '', n = 0; n < 5; n++) { // an alias, whose other target answered
    const p = await ask(page, `/api/v1/calls?limit=1000&q=smart&cursor=${encodeURIComponent(cursor)}`)
    calls.push(...p.calls.filter(c => c.attempts.length > 1))
    if (!(cursor = p.next)) break
  }
  const kinds = {
    plain: c => c.status === 'success' && c.cost_nano_usd > 0 && !c.stream, cached: c => c.usage.cache_read_tokens > 0 && c.cost_nano_usd > 0, written: c => c.usage.cache_write_5m_tokens > 0,
    thought: c => c.usage.reasoning_tokens > 0, streamed: c => c.stream && c.ttft_ms > 0 && c.status === 'success', retried: c => c.attempts.length > 1 && c.status === 'success', elsewhere: c => new Set(c.attempts.map(a => a.provider)).size > 1,
    limited: c => c.http_status === 429, broken: c => c.error.class === 'stream_broken', canceled: c => c.status === 'canceled', unknown: c => c.attempts.length === 0, unpriced: c => c.cost_nano_usd === null,
  }
  for (const [kind, is] of Object.entries(kinds)) {
    const c = calls.find(is)
    assert.ok(c, `the demo has no call of kind ${kind}`)
    await page.goto(new URL(page.url()).origin + `/requests?range=30d&lang=en&call=${c.id}`)
    await page.waitForSelector('.detail .total')
    const w = `${kind} ${c.id}`

    const tries = await page.locator('.timeline li').evaluateAll(l => l.map(x => ({ who: x.querySelector('.who')?.textContent, how: x.querySelector('.who + span')?.textContent, took: x.querySelector('b')?.textContent })))
    assert.equal(tries.filter(t => t.who).length, c.attempts.length, w)
    for (const [i, a] of c.attempts.entries()) {
      assert.equal(tries[i].who, `${i + 1}. ${a.provider}/${a.model}`, w)
      assert.ok(tries[i].how.startsWith(a.http_status || 'no answer'), `${w}: ${tries[i].how}`)
      same(tries[i].took, a.latency_ms, `${w}: try ${i + 1}`)
    }
    const tokens = Object.fromEntries(await page.locator('.detail section:has(h3:text("Tokens")) tr').evaluateAll(r => r.map(x => [x.querySelector('th').textContent, +x.querySelector('.n').textContent.replaceAll(',', '')])))
    assert.equal(tokens.Input, c.usage.input_tokens, w)
    assert.equal(tokens.Output, c.usage.output_tokens, w)
    for (const [name, field] of [['Cache read', 'cache_read_tokens'], ['Cache write, 5 min', 'cache_write_5m_tokens'], ['Reasoning', 'reasoning_tokens']]) assert.equal(tokens[name] ?? 0, c.usage[field], `${w}: ${name}`)

    const lines = await page.locator('.price tr:not(.total)').evaluateAll(r => r.map(x => [...x.querySelectorAll('th,td')].map(c => c.textContent)))
    const total = await page.locator('.price .total .n').last().textContent()
    if (c.cost_nano_usd === null) {
      assert.equal(total, 'no price', w)
      continue
    }
    // Each line multiplies out, and the lines add up to the stored cost. A line
    // may end within a nano-dollar: amounts are compared in millionths of one.
    let sum = 0n
    for (const [kind, how, amount] of lines) {
      const [whole, part] = amount.replace('$', '').split('.')
      const micro = BigInt(whole) * 10n ** 15n + BigInt(part.padEnd(15, '0'))
      sum += micro
      if (!how) continue // earlier attempts
      const m = /^([\d,]+) × \$([\d.]+) \/ 1M$/.exec(how)
      assert.ok(m, `${w}: ${kind}: ${how}`)
      const [r, d = ''] = m[2].split('.')
      assert.equal(micro, BigInt(m[1].replaceAll(',', '')) * BigInt(r + d.padEnd(9, '0')), `${w}: ${how} = ${amount}`)
    }
    assert.equal((sum + 500_000n) / 1_000_000n, BigInt(c.cost_nano_usd), `${w}: the lines add up`)
    assert.equal(nano(total), BigInt(c.cost_nano_usd), `${w}: total ${total}`)
    assert.equal(await page.locator('.detail .note.bad').count(), 0, `${w}: the catalogue gives another price`)
    if (kind === 'limited') assert.match(await page.locator('.detail .message').textContent(), /Rate limit reached/)
  }
  // What a value leads to.
  const c = calls.find(kinds.streamed)
  await page.goto(new URL(page.url()).origin + `/requests?range=30d&lang=en&call=${c.id}`)
  await page.click(`.detail .pairs button:text-is("${c.session}")`)
  await page.waitForSelector('.rows [data-id]')
  const session = await ask(page, `/api/v1/calls?session=${c.session}&limit=1000`)
  assert.equal(+await page.locator('.rows table').getAttribute('aria-rowcount'), session.calls.length)
  await page.click('.rows [data-id]')
  await page.click('.detail button:has-text("Copy as JSON")')
  const copied = JSON.parse(await page.evaluate(() => navigator.clipboard.readText()))
  assert.ok(session.calls.some(x => x.id === copied.id))
  page.calm()

  await page.click('.detail button:text-is("Show")')
  await page.waitForSelector('.detail :text("Not kept")')
  page.calm(/404/)
}
