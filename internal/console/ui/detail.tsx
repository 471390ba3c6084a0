import { useEffect, useRef, useState } from 'preact/hooks'
import type { ComponentChildren } from 'preact'
import { Failure, get, type Arithmetic, type Body, type Call } from './api'
import { useNarrow } from './data'
import { useLocal, type Word } from './i18n'
import { Icon } from './icons'
import { Badge } from './rows'
import { Copy, Problem } from './states'
import { classWord } from './causes'
import { go, only } from './url'

// Detail is everything that is known of one Call.
export function Detail({ id, known, onClose }: { id: string; known?: Call; onClose: () => void }) {
  const { t, f } = useLocal()
  const [call, setCall] = useState<Call | undefined>(known)
  const [sum, setSum] = useState<Arithmetic>()
  const [error, setError] = useState<Failure>()
  const [again, retry] = useState(0)
  useEffect(() => {
    const abort = new AbortController()
    setCall(known)
    setSum(undefined)
    setError(undefined)
    const path = '/api/v1/calls/' + encodeURIComponent(id)
    Promise.all([get<Call>(path, abort.signal), get<Arithmetic>(path + '/price', abort.signal)])
      .then(([c, a]) => { setCall(c); setSum(a) }, e => { if (!abort.signal.aborted) setError(e) })
    return () => abort.abort()
  }, [id, again])
  const box = useRef<HTMLElement>(null)
  const narrow = useNarrow()
  useEffect(() => { if (!document.activeElement?.isConnected || document.activeElement === document.body) box.current?.focus() }, [])
  const c = call?.id === id ? call : known
  return (
    <aside class="detail card" aria-label={t('details')} ref={box} tabIndex={-1}>
      <header>
        {c && <Badge call={c} brief />}
        <h2>{c?.model || c?.model_requested || t('request')}</h2>
        <span class="space" />
        {c && <Copy text={JSON.stringify(c, null, 2)} label={t('copy_json')} small={narrow} />}
        <button class="icon" title={t('close')} aria-label={t('close')} onClick={onClose}><Icon name="close" /></button>
      </header>
      <div class="body" tabIndex={0}>
        {error && <Problem error={error} retry={() => retry(n => n + 1)} stale={!!c} />}
        {c && (
          <>
            <p class="when">{f.full(Date.parse(c.started_at) / 1000)}</p>
            {c.error.class && <Box title={t('error')} tone="bad"><p class="message"><b>{classWord(t, c.error.class)}</b>{c.error.code && <code>{c.error.code}</code>}<br />{c.error.message}</p></Box>}
            <Timeline call={c} />
            <Tokens call={c} />
            <Price call={c} sum={sum} />
            {Object.keys(c.tags).length > 0 && (
              <Box title={t('tags')}>
                <p class="tags">{Object.entries(c.tags).map(([k, v]) => <button key={k} class="chip" title={t('filter_by')} onClick={() => go({ ...only('tag:' + k, v), call: null })}><span class="dim">{k}</span>{v}</button>)}</p>
              </Box>
            )}
            <Bodies key={c.id} id={c.id} />
            {Object.keys(c.quality).length > 0 && <Box title={t('quality')}><Pairs of={Object.entries(c.quality)} /></Box>}
            <Box title={t('facts')}>
              <Pairs of={[
                [t('id'), <Id v={c.id} />], [t('response_id'), c.response_id && <Id v={c.response_id} />], [t('key'), <Pick dim="key" v={c.key} />], [t('team'), <Pick dim="team" v={c.team} />],
                [t('user'), <Pick dim="user" v={c.user} />], [t('session'), <Pick dim="session" v={c.session} />],
                [t('route'), c.ingress + (c.stream ? ' · ' + t('stream') : '')], [t('model_requested'), c.model_requested], [t('answered_by'), c.provider && c.provider + '/' + c.model],
                [t('response_model'), c.response_model], [t('finish'), c.finish_reason + (c.native_finish_reason && c.native_finish_reason !== c.finish_reason ? ` (${c.native_finish_reason})` : '')],
                [t('origin'), c.origin],
              ]} />
            </Box>
          </>
        )}
      </div>
    </aside>
  )
}

// Pick is a value that narrows the list to the Calls that share it.
const Pick = ({ dim, v }: { dim: string; v: string }) => {
  const { t } = useLocal()
  return v ? <button class="link" title={t('filter_by')} onClick={() => go({ ...only(dim, v), call: null })}>{v}</button> : null
}

const Id = ({ v }: { v: string }) => {
  const { t } = useLocal()
  return v ? <span class="id"><code>{v}</code><Copy text={v} label={t('copy')} small /></span> : null
}

const Box = ({ title, note, tone, children }: { title: string; note?: ComponentChildren; tone?: string; children: ComponentChildren }) => (
  <section class={tone}><h3>{title}{note && <span class="note">{note}</span>}</h3>{children}</section>
)

const Pairs = ({ of }: { of: [string, ComponentChildren][] }) => (
  <dl class="pairs">{of.filter(([, v]) => v && !(typeof v === 'object' && 'props' in v && v.props.v === '')).map(([k, v]) => <div key={k}><dt>{k}</dt><dd>{v}</dd></div>)}</dl>
)

// Timeline shows the tries one after the other, and where the first token came.
// What lies between them is known as a whole: it is shown in equal parts.
function Timeline({ call: c }: { call: Call }) {
  const { t, f } = useLocal()
  const n = c.attempts.length, tried = c.attempts.reduce((s, a) => s + a.latency_ms, 0)
  const whole = Math.max(c.latency_ms, tried, 0.001)
  const gap = n > 1 ? Math.max(0, whole - tried - c.overhead_us / 1000) / (n - 1) : 0
  let begun = 0
  return (
    <Box title={t('timeline')} note={<>{f.ms(c.latency_ms)}{c.ttft_ms > 0 && ' · ' + t('ttft_is', { x: f.ms(c.ttft_ms) })}{gap * (n - 1) >= 1 && ' · ' + t('waits_are', { x: f.ms(gap * (n - 1)) })}{' · ' + t('overhead_is', { x: f.ms(c.overhead_us / 1000) })}</>}>
      <ol class="timeline">
        {c.attempts.map((a, i) => {
          const left = Math.min(99, 100 * begun / whole), width = Math.max(1, 100 * a.latency_ms / whole)
          begun += a.latency_ms + gap
          return (
            <li key={i}>
              <span class="who">{i + 1}. {a.provider}/{a.model}{a.provider_key && ' · ' + a.provider_key}</span>
              <span class={a.error_class ? 'bad' : 'dim'}>{a.http_status || t('no_answer')}{a.error_class && ' · ' + classWord(t, a.error_class)}</span>
              <b>{f.ms(a.latency_ms)}</b>
              <div class="track">
                <i class={a.error_class ? 'bad' : ''} style={{ left: left + '%', width: Math.min(width, 100 - left) + '%' }} />
                {i === n - 1 && c.ttft_ms > 0 && <u style={{ left: Math.min(99.5, 100 * c.ttft_ms / whole) + '%' }} title={t('ttft')} />}
              </div>
            </li>
          )
        })}
        {n === 0 && <li class="dim">{t('no_attempt')}</li>}
      </ol>
    </Box>
  )
}

// Bodies are what was asked and answered, where they are kept; read only when
// somebody wants to see them.
function Bodies({ id }: { id: string }) {
  const { t } = useLocal()
  const [body, setBody] = useState<Body>()
  const [error, setError] = useState<Failure>()
  const show = () => get<Body>(`/api/v1/calls/${encodeURIComponent(id)}/body`).then(setBody, setError)
  return (
    <Box title={t('bodies')}>
      {!body && !error && <button class="button" onClick={show}>{t('bodies_show')}</button>}
      {error && <p class="note">{error.status === 404 ? t('bodies_none') : error.message}</p>}
      {body && ([['request', body.request, body.request_cut], ['response', body.response, body.response_cut]] as const).map(([w, text, cut]) => (
        <div class="raw" key={w}><h4>{t(w)}{cut && <span class="note">{t('bodies_cut')}</span>}<Copy text={text} label={t('copy')} small /></h4><pre tabIndex={0}>{pretty(text)}</pre></div>
      ))}
    </Box>
  )
}

function pretty(text: string): string {
  try { return JSON.stringify(JSON.parse(text), null, 2) } catch { return text }
}

const kinds: [keyof Call['usage'], Word, boolean][] = [
  ['input_tokens', 'input', false], ['cache_read_tokens', 'cache_read', true], ['cache_write_5m_tokens', 'cache_write_5m', true], ['cache_write_1h_tokens', 'cache_write_1h', true],
  ['audio_input_tokens', 'audio_input', true], ['output_tokens', 'output', false], ['reasoning_tokens', 'reasoning', true], ['audio_output_tokens', 'audio_output', true],
]

function Tokens({ call: { usage } }: { call: Call }) {
  const { t, f } = useLocal()
  const whole = Math.max(1, usage.input_tokens, usage.output_tokens)
  return (
    <Box title={t('tokens')} note={t(('source_' + usage.source) as Word)}>
      <table class="sums">
        <tbody>
          {kinds.filter(([k, , part]) => !part || usage[k]).map(([k, word, part]) => (
            <tr key={k} class={part ? 'part' : ''}>
              <th scope="row">{t(word)}</th>
              <td class="half"><span class="meter"><i class={k.startsWith('output') || k.startsWith('reason') ? 'out' : ''} style={{ width: 100 * (usage[k] as number) / whole + '%' }} /></span></td>
              <td class="n">{f.int(usage[k] as number)}</td>
            </tr>
          ))}
          {Object.entries(usage.server_tool_calls).map(([k, n]) => <tr key={k}><th scope="row">{k}</th><td /><td class="n">{f.int(n)}</td></tr>)}
        </tbody>
      </table>
    </Box>
  )
}

const knownKinds = ['input', 'output', 'cache_read', 'cache_write_5m', 'cache_write_1h', 'audio_input', 'audio_output']

// Price is the arithmetic of the cost, to the nano-dollar.
function Price({ call: c, sum }: { call: Call; sum?: Arithmetic }) {
  const { t, f } = useLocal()
  const nano = (s: string) => {
    const [whole, part = ''] = s.split('.')
    return '$' + (BigInt(whole) / 1_000_000_000n) + '.' + String(BigInt(whole) % 1_000_000_000n).padStart(9, '0') + part
  }
  return (
    <Box title={t('cost')} note={c.price_row && <code>{c.price_row}</code>}>
      {!sum && <p class="note">{t('loading')}</p>}
      {sum && (
        <table class="sums price">
          <tbody>
            {sum.lines.map((l, i) => (
              <tr key={i}>
                <th scope="row">{knownKinds.includes(l.kind) ? t(l.kind as Word) : l.kind}{l.model !== c.model && <small>{l.model}</small>}</th>
                <td class="n dim">{f.int(l.quantity)} × ${l.rate_usd} / {l.per === 1_000_000 ? '1M' : f.int(l.per)}</td>
                <td class="n">{nano(l.amount_nano_usd)}</td>
              </tr>
            ))}
            {sum.earlier_attempts_nano_usd > 0 && <tr><th scope="row">{t('earlier')}</th><td /><td class="n">{f.exact(sum.earlier_attempts_nano_usd)}</td></tr>}
            <tr class="total"><th scope="row">{t('total')}</th><td class="n dim">{t(('price_' + sum.source) as Word)}</td><td class="n" data-cost={c.cost_nano_usd ?? ''}>{c.cost_nano_usd === null ? t('unpriced') : f.exact(c.cost_nano_usd)}</td></tr>
          </tbody>
        </table>
      )}
      {sum && sum.computed_nano_usd !== null && c.cost_nano_usd !== null && sum.computed_nano_usd !== c.cost_nano_usd && <p class="note bad">{t('price_differs', { now: f.exact(sum.computed_nano_usd), row: sum.row })}</p>}
    </Box>
  )
}
