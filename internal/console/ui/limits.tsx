import { useMemo, useRef, useState } from 'preact/hooks'
import { get, type Budget, type Deployment, type Limits as Page, type Me, type Room, type Rule } from './api'
import { useLoad } from './data'
import { useLocal, type T } from './i18n'
import { Search } from './filters'
import { Copy, Problem } from './states'
import { go, useRoute, visit } from './url'

const every = 2000 // what was used in the last minute becomes less by itself
const page = 50 // rules shown at first
const few = 10 // rules that need no search

const rates = [['rpm', 'requests'], ['tpm', 'tokens'], ['input_tpm', 'input_tokens'], ['output_tpm', 'output_tokens'], ['concurrent', 'concurrent']] as const
const rooms = ['requests', 'tokens', 'input_tokens', 'output_tokens'] as const
const marks = { closed: '2xx', resting: '429', half_open: '4xx', open: '5xx' }

const spent = (b: Budget) => (b.spent_nano_usd + b.reserved_nano_usd) / b.amount_nano_usd
const bounded = (r: Rule) => rates.filter(([, of]) => r[of].limit > 0)
const fullness = (r: Rule) => Math.max(0, ...bounded(r).map(([, of]) => r[of].used / r[of].limit), ...r.budgets.map(spent))
const level = (x: number) => x >= 1 ? 'full' : x >= 0.9 ? 'high' : x >= 0.8 ? 'near' : ''
const unix = (s: string) => Date.parse(s) / 1000

// Limits shows how full each limit and budget is, what providers have left, how
// long answers are and which budgets are being used up. The holder of a data key
// sees what is about its own.
export function Limits({ me }: { me: Me }) {
  const { params } = useRoute()
  const { t, f } = useLocal()
  const [count, setCount] = useState(page)
  const text = params.get('find') ?? ''
  const { value: v, error, loading, reload } = useLoad<Page>('limits', signal => get<Page>('/api/v1/limits', signal), true, every)
  const list = useRef<HTMLUListElement>(null), order = useRef(new Map<string, number>())
  const rules = useMemo(() => {
    const asked = text.toLowerCase()
    const held = list.current?.matches(':hover, :focus-within') ? order.current : new Map<string, number>() // nothing moves under who reads it
    const place = (r: Rule) => held.get(r.rule) ?? held.size
    const sorted = (v?.rules ?? []).filter(r => [r.rule, r.key, r.team].some(x => x?.toLowerCase().includes(asked))).map(r => [place(r), fullness(r), r] as const).sort((a, b) => a[0] - b[0] || b[1] - a[1]).map(([, , r]) => r)
    order.current = new Map(sorted.map((r, i) => [r.rule, i]))
    return sorted
  }, [v, text])
  const now = Date.now() / 1000
  const forecasts = v?.forecasts.filter(x => !me.admin || x.key === '') ?? []
  return (
    <main class="page limits" id="main" tabIndex={-1}>
      <h1 class="unseen">{t('limits')}</h1>
      {error && <Problem error={error} retry={reload} stale={!!v} />}
      {!v && !error && <p class="note center late" role="status">{t('loading')}</p>}
      {v && (
        <div id="limits" aria-busy={loading}>
          {v.rules.length === 0 ? <None admin={me.admin} /> : (
            <section class="card rules" aria-label={t('limits_rules')}>
              <header><h2>{t('limits_rules')}</h2><span class="note">{t('limits_hint')}</span><span class="space" />{(v.rules.length > few || text) && <Search param="find" label={t('key_search')} />}</header>
              <ul ref={list}>{rules.slice(0, count).map(r => <Bounds key={r.rule} r={r} now={now} />)}</ul>
              {rules.length === 0 && <p class="note center">{t('limits_no_match')} <button class="link" onClick={() => go({ find: null })}>{t('clear')}</button></p>}
              {rules.length > count && <p class="center"><button class="button" onClick={() => setCount(count + 200)}>{t('limits_more', { n: f.int(rules.length - count) })}</button></p>}
            </section>
          )}
          {v.providers.length > 0 && <Providers list={v.providers} now={now} />}
          {(forecasts.length > 0 || v.events.length > 0) && (
            <div class="pair">
              {v.events.length > 0 && <Events list={v.events} now={now} />}
              {forecasts.length > 0 && <Forecasts list={forecasts} />}
            </div>
          )}
        </div>
      )}
    </main>
  )
}

// Bounds is a rule: whom it is about, and a bar for each thing that it bounds.
function Bounds({ r, now }: { r: Rule; now: number }) {
  const { t, f } = useLocal()
  const about = { key: r.key, team: r.team, provider: r.provider, model: r.model }
  const over = [r.over_tokens > 0 && t('limits_tokens', { n: f.short(r.over_tokens) }), r.over_nano_usd > 0 && f.usd(r.over_nano_usd)].filter(Boolean).join(' · ')
  const { name } = split(t, r.rule)
  return (
    <li data-rule={r.rule}>
      <div class="who">
        <h3 title={r.rule}>{r.model_requested ? name : <button class="link" title={t('show_requests')} onClick={() => visit('/requests', Object.fromEntries(Object.entries(about).map(([k, x]) => [k, x ?? null])))}>{name}</button>}</h3>
        <p class="note">{whom(t, r)}</p>
        {(r.refused > 0 || over) && <p class="note">{r.refused > 0 && <span class="warn" data-number="refused" title={t('limits_since')}>{t('limits_refused', { n: f.short(r.refused) })}</span>}{over && <span data-number="over" title={t('limits_over_more')}>{t('limits_over', { x: over })}</span>}</p>}
      </div>
      <dl>
        {r.budgets.map(b => <Money key={b.period} b={b} now={now} />)}
        {bounded(r).map(([n, of]) => <Bar key={n} id={n} name={t(('bound_' + n) as 'bound_rpm')} used={r[of].used} limit={r[of].limit} write={x => f.short(x)} exact={x => f.int(x)} />)}
      </dl>
    </li>
  )
}

function Money({ b, now }: { b: Budget; now: number }) {
  const { t, f } = useLocal()
  const gone = b.spent_nano_usd >= b.amount_nano_usd, end = b.exhausted_at && unix(b.exhausted_at)
  return (
    <Bar id={'budget_' + b.period} name={t(('budget_' + b.period) as 'budget_day')} used={b.spent_nano_usd} reserved={b.reserved_nano_usd} limit={b.amount_nano_usd} write={x => f.usd(x)} exact={x => f.exact(x)}>
      {b.reserved_nano_usd > 0 && <span data-number="reserved" title={f.exact(b.reserved_nano_usd)}>{t('limits_reserved', { x: f.usd(b.reserved_nano_usd) })}</span>}
      {gone ? <span class="bad">{t('limits_gone')}</span> : end && <span data-number="exhausted" class={!b.to || end < unix(b.to) ? 'warn' : ''} title={f.full(end)}>{t('limits_lasts', { when: f.ago(Math.max(end, now), now) })}</span>}
      {b.to && <span data-number="resets" title={f.full(unix(b.to))}>{t('limits_resets', { when: f.ago(unix(b.to), now) })}</span>}
    </Bar>
  )
}

interface BarProps { id: string; name: string; used: number; reserved?: number; limit: number; write: (n: number) => string; exact: (n: number) => string; children?: any }

// Bar is how full one bound is. Its colour says no more than the percentage.
function Bar({ id, name, used, reserved = 0, limit, write, exact, children }: BarProps) {
  const { f } = useLocal()
  const share = (used + reserved) / limit, l = level(share)
  const wide = (n: number, most = 1) => Math.min(most, n / limit)
  const first = wide(used)
  return (
    <div data-bound={id} class={'bound ' + l}>
      <dt>{name}</dt>
      <dd class="used"><span data-number="used" title={exact(used)}>{write(used)}</span> / <span data-number="limit" title={exact(limit)}>{write(limit)}</span></dd>
      <dd class="part" data-number="share">{share > 0 && share < 0.01 ? '<' + f.percent(0.01) : f.percent(Math.floor(share * 100) / 100)}</dd>
      <dd class="meter" aria-hidden="true"><i style={{ width: first * 100 + '%' }} />{reserved > 0 && <i class="held" style={{ width: wide(reserved, 1 - first) * 100 + '%' }} />}</dd>
      {children && <dd class="more">{children}</dd>}
    </div>
  )
}

// split takes a rule's name apart: what kind of thing it is about, and its name.
function split(t: T, rule: string): { kind: string; name: string } {
  const i = rule.indexOf(' '), kinds: Record<string, string> = { key: t('key'), team: t('team'), model: t('model'), provider: t('provider'), rule: '' }
  const kind = kinds[rule.slice(0, i)]
  return kind === undefined ? { kind: '', name: rule } : { kind, name: rule.slice(i + 1) }
}

// whom says whom a rule is about, without what its name says already.
function whom(t: T, r: Rule): string {
  const all = [[t('key'), r.key], [t('team'), r.team], [t('model'), r.model_requested], [t('provider'), r.provider], [t('model'), r.model]].filter(([, x]) => x)
  const { kind } = split(t, r.rule)
  if (kind && all.length === 1) return kind
  return all.map(([k, x]) => k + ' ' + x).join(' · ') || t('limits_everybody')
}

function Providers({ list, now }: { list: Deployment[]; now: number }) {
  const { t, f } = useLocal()
  const none = <span class="dim">–</span>
  return (
    <section class="card list" aria-label={t('limits_providers')} id="providers">
      <header><h2>{t('limits_providers')}</h2></header>
      <div class="scroll" tabIndex={0} role="region" aria-label={t('limits_providers')}>
        <table>
          <thead>
            <tr>
              <th scope="col">{t('provider')}</th><th scope="col">{t('model')}</th><th scope="col">{t('limits_health')}</th><th scope="col" class="n">{t('in_flight')}</th>
              <th scope="col" class="n">{t('limits_wait')}</th><th scope="col" class="n">{t('limits_latency')}</th>{rooms.map(k => <th key={k} scope="col" class="n">{t(('room_' + k) as 'room_tokens')}</th>)}
            </tr>
          </thead>
          <tbody>
            {list.map(d => (
              <tr key={d.provider + '/' + d.provider_key + '/' + d.model} data-model={d.model} data-provider={d.provider}>
                <th scope="row">{d.provider}{d.provider_key && <span class="chip" title={t('key')}>{d.provider_key}</span>}</th>
                <td>{d.model}</td>
                <td class="wide">
                  {d.state ? <Health d={d} now={now} /> : none}
                </td>
                <td class="n" data-number="in_flight">{f.int(d.in_flight)}</td>
                <td class="n" data-number="ttft">{d.ttft_ms ? f.ms(d.ttft_ms) : none}</td>
                <td class="n" data-number="latency">{d.latency_ms ? f.ms(d.latency_ms) : none}</td>
                {rooms.map(k => { const r = d.limits.find(x => x.kind === k); return <td key={k} class="n" data-room={k}>{r ? <Left r={r} now={now} /> : none}</td> })}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  )
}

// Health says whether a deployment is asked: one that has no room rests, one that
// fails is passed over.
function Health({ d, now }: { d: Deployment; now: number }) {
  const { t, f } = useLocal()
  const until = d.cool_until && unix(d.cool_until), resting = until && d.state === 'closed'
  const state = resting ? 'resting' : d.state as 'open'
  return (
    <>
      <span class={'badge b-' + marks[state]} title={t(('health_more_' + state) as 'health_more_open')} data-state={d.state}><i />{t(('health_' + state) as 'health_open')}</span>
      {until && <small data-number="cooling" title={f.full(until)}>{t('limits_back', { when: f.ago(Math.max(now, until), now) })}</small>}
    </>
  )
}

// Left is what a provider has left of one of its limits.
function Left({ r, now }: { r: Room; now: number }) {
  const { t, f } = useLocal()
  return (
    <span class="room">
      <span><span class={r.limit ? level(1 - r.remaining / r.limit) : ''} data-number="remaining" title={f.int(r.remaining)}>{f.short(r.remaining)}</span>{r.limit > 0 && <span class="dim" title={f.int(r.limit)}> / {f.short(r.limit)}</span>}</span>
      {r.full_at && <span class="dim" title={f.full(unix(r.full_at))}>{t('limits_full', { when: f.ago(Math.max(now, unix(r.full_at)), now) })}</span>}
    </span>
  )
}

function Forecasts({ list }: { list: Page['forecasts'] }) {
  const { t, f } = useLocal()
  return (
    <section class="card list" aria-label={t('limits_forecasts')} id="forecasts">
      <header><h2>{t('limits_forecasts')}</h2><span class="note">{t('limits_forecasts_hint')}</span></header>
      <div class="scroll" tabIndex={0} role="region" aria-label={t('limits_forecasts')}>
        <table>
          <thead><tr><th scope="col">{t('model')}</th><th scope="col" class="n">P50</th><th scope="col" class="n">P95</th><th scope="col" class="n">{t('limits_answers')}</th></tr></thead>
          <tbody>{list.map(x => <tr key={x.model} data-model={x.model}><th scope="row">{x.model}</th><td class="n" data-number="p50">{f.int(x.p50)}</td><td class="n" data-number="p95">{f.int(x.p95)}</td><td class="n dim">{f.int(x.answers)}</td></tr>)}</tbody>
        </table>
      </div>
    </section>
  )
}

function Events({ list, now }: { list: Page['events']; now: number }) {
  const { t, f } = useLocal()
  return (
    <section class="card list" aria-label={t('limits_events')} id="events">
      <header><h2>{t('limits_events')}</h2></header>
      <div class="scroll" tabIndex={0} role="region" aria-label={t('limits_events')}>
        <table>
          <thead><tr><th scope="col">{t('time')}</th><th scope="col">{t('limits_mark')}</th><th scope="col">{t('limits_rule')}</th><th scope="col">{t('key_budget')}</th><th scope="col" class="n">{t('limits_spent')}</th></tr></thead>
          <tbody>
            {list.map(e => {
              const { kind, name } = split(t, e.rule)
              return (
                <tr key={e.at + e.rule + e.period + e.percent} data-event={e.rule}>
                  <th scope="row"><time dateTime={e.at} title={f.full(unix(e.at))}>{f.ago(Math.min(now, unix(e.at)), now)}</time></th>
                  <td><span class={'percent ' + level(e.percent / 100)} data-number="percent">{f.percent(e.percent / 100)}</span></td>
                  <td title={e.rule}>{name}{kind && <span class="dim"> {kind}</span>}</td>
                  <td>{t(('budget_' + e.period) as 'budget_day')}</td>
                  <td class="n"><span title={f.exact(e.spent_nano_usd)}>{f.usd(e.spent_nano_usd)}</span><span class="dim"> / {f.usd(e.amount_nano_usd)}</span></td>
                </tr>
              )
            })}
          </tbody>
        </table>
      </div>
    </section>
  )
}

// None is what the page shows where nothing is bounded: how to.
function None({ admin }: { admin: boolean }) {
  const { t } = useLocal()
  if (!admin) return <section class="card empty"><h2>{t('limits_none_own')}</h2><p>{t('limits_none_own_text')}</p></section>
  const text = 'keys:\n  team-a:\n    key: env:TEAM_A_KEY\n    limits: { rpm: 60, tpm: 100k, concurrent: 20 }\n    budget: [$20/day, $200/month]'
  return (
    <section class="card empty">
      <h2>{t('limits_none')}</h2>
      <p>{t('limits_none_text')}</p>
      <div class="code"><pre tabIndex={0} aria-label={t('example')}>{text}</pre><Copy text={text} label={t('copy')} /></div>
      <p class="note">{t('limits_none_more')}</p>
      <p class="act"><button class="button" onClick={() => visit('/keys')}>{t('limits_none_keys')}</button></p>
    </section>
  )
}
