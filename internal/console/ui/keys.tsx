import { useState } from 'preact/hooks'
import { get, query, type Key, type Keys as Page, type KeyUsage, type Me, type Values } from './api'
import { useLoad } from './data'
import { days, useLocal, type T } from './i18n'
import { Search } from './filters'
import { Icon } from './icons'
import { limitNames, Made, Revoke, Rotate, Settings } from './keyforms'
import { Copy, Problem } from './states'
import { iso, unwall, wall } from './time'
import { go, useRoute, visit } from './url'

const page = 100, most = 1000 // keys shown at first, and at all
const states = ['active', 'expired', 'revoked'] as const

const stateWord = (t: T, s: Key['state']) => ({ active: t('key_active'), expired: t('key_expired'), revoked: t('key_revoked') })[s]
const mark = { active: '2xx', expired: '4xx', revoked: 'canceled' }

type Open = { what: 'new' } | { what: 'edit' | 'rotate' | 'revoke'; key: Key } | { what: 'made'; key: Key; secret: string }

// Keys lists keys and makes, changes, rotates and revokes them. The holder of
// a data key sees its own.
export function Keys({ me }: { me: Me }) { return me.admin ? <All /> : <Mine /> }

function All() {
  const { params } = useRoute()
  const { t, f } = useLocal()
  const [count, setCount] = useState(page)
  const [open, setOpen] = useState<Open>()
  const text = params.get('find') ?? '', state = params.get('state') ?? ''
  const { value, error, loading, reload } = useLoad<{ list: Page; used: Map<string, Values> }>(JSON.stringify([text, state, count]), async signal => {
    const list = await get<Page>('/api/v1/keys?' + new URLSearchParams({ limit: String(count), q: text, ...(state && { state }) }), signal)
    return { list, used: await usedThisMonth(list.keys.map(k => k.name), signal) }
  }, true)
  const close = () => setOpen(undefined)
  const done = () => { close(); reload() }
  const made = (k: { key: Key; secret: string }) => { setOpen({ what: 'made', ...k }); reload() }
  const list = value?.list
  const none = list?.total === 0 && !loading
  return (
    <main class="page keys" id="main" tabIndex={-1}>
      <h1 class="unseen">{t('keys')}</h1>
      <div class="bar" role="search" aria-label={t('filters')}>
        <Search param="find" label={t('key_search')} />
        <select aria-label={t('status')} class={state ? 'set' : ''} value={state} onChange={e => go({ state: e.currentTarget.value })}>
          <option value="">{t('key_any_state')}</option>
          {states.map(s => <option key={s} value={s}>{stateWord(t, s)}</option>)}
        </select>
        <span class="space" />
        <button class="button primary" onClick={() => setOpen({ what: 'new' })}><Icon name="plus" /><span>{t('key_new')}</span></button>
      </div>
      {error && <Problem error={error} retry={reload} stale={!!value} />}
      {none && !text && !state ? <None onNew={() => setOpen({ what: 'new' })} /> : list && (
        <section class={'card list' + (loading ? ' stale' : '')} id="keys" aria-busy={loading} aria-label={t('keys')}>
          <div class="scroll" tabIndex={0} role="region" aria-label={t('keys')}>
            <table>
              <thead>
                <tr>
                  <th scope="col">{t('key_name')}</th><th scope="col">{t('team')}</th><th scope="col">{t('models')}</th><th scope="col">{t('key')}</th><th scope="col">{t('status')}</th>
                  <th scope="col">{t('key_created')}</th><th scope="col">{t('key_expires')}</th><th scope="col">{t('key_limits')}</th><th scope="col">{t('key_budget')}</th>
                  <th scope="col" class="n">{t('key_calls_month')}</th><th scope="col" class="n">{t('key_cost_month')}</th><th scope="col"><span class="unseen">{t('key_actions')}</span></th>
                </tr>
              </thead>
              <tbody>
                {list.keys.map(k => <Row key={k.name} k={k} used={value!.used.get(k.name)} open={setOpen} />)}
              </tbody>
            </table>
          </div>
          {none && <p class="note center">{t('key_no_match')} <button class="link" onClick={() => go({ find: null, state: null })}>{t('clear')}</button></p>}
          {list.next && count < most && <p class="center"><button class="button" onClick={() => setCount(Math.min(most, count + 300))}>{t('key_more', { n: f.int(list.total - list.keys.length) })}</button></p>}
          {list.next && count >= most && <p class="note center">{t('key_cut', { n: f.int(most), all: f.int(list.total) })}</p>}
        </section>
      )}
      {open?.what === 'new' && <Settings onMade={made} onDone={done} onClose={close} />}
      {open?.what === 'edit' && <Settings of={open.key} onMade={made} onDone={done} onClose={close} />}
      {open?.what === 'rotate' && <Rotate of={open.key} onMade={made} onClose={close} />}
      {open?.what === 'revoke' && <Revoke of={open.key} onDone={done} onClose={close} />}
      {open?.what === 'made' && <Made of={open.key} secret={open.secret} onClose={close} />}
    </main>
  )
}

function Row({ k, used, open }: { k: Key; used?: Values; open: (o: Open) => void }) {
  const { t, f } = useLocal()
  const time = (s: string | null) => s ? <time dateTime={s} title={f.full(Date.parse(s) / 1000)}>{f.daily(s)}</time> : <span class="dim">–</span>
  const some = (list: string[]) => list.length ? list.join(', ') : <span class="dim">–</span>
  const fixed = k.source === 'config'
  const cost = used?.[1] ?? 0, unpriced = used?.[2] ?? 0
  const act = (what: 'edit' | 'rotate' | 'revoke', icon: 'edit' | 'rotate' | 'bin', label: string) =>
    <button class="icon" title={label} aria-label={label + ': ' + k.name} onClick={() => open({ what, key: k })}><Icon name={icon} /></button>
  return (
    <tr data-key={k.name} class={k.state === 'active' ? '' : 'over'}>
      <th scope="row"><button class="link" title={t('show_requests')} onClick={() => visit('/requests', { key: k.name, range: '30d', from: null, to: null })}>{k.name}</button>{fixed && <span class="chip" title={t('key_config_more')}>{t('key_config')}</span>}</th>
      <td>{k.team || <span class="dim">–</span>}</td>
      <td title={k.models.join('\n')}>{k.metrics ? <span class="dim">{t('key_metrics')}</span> : k.models.length ? k.models.join(', ') : <span class="dim">{t('key_all_models')}</span>}</td>
      <td>{k.last4 ? <code>…{k.last4}</code> : <span class="dim">–</span>}{k.grace_until && Date.parse(k.grace_until) > Date.now() && <small title={t('key_grace_until', { time: f.full(Date.parse(k.grace_until) / 1000) })}>{t('key_two')}</small>}</td>
      <td><span class={'badge b-' + mark[k.state]}><i />{stateWord(t, k.state)}</span></td>
      <td>{time(k.created_at)}</td>
      <td>{k.expires_at ? time(k.expires_at) : <span class="dim">{fixed ? '–' : t('key_never')}</span>}</td>
      <td class="some" title={limitsOf(k, t, n => f.int(n)).join('\n')}>{some(limitsOf(k, t, n => f.short(n)))}</td>
      <td class="some" title={k.budget.join('\n')}>{some(k.budget)}</td>
      <td class="n" data-number="requests">{f.int(used?.[0] ?? 0)}</td>
      <td class="n" title={f.exact(cost) + (unpriced ? ' · ' + t('unpriced_n', { n: f.int(unpriced) }) : '')}>{!cost && unpriced ? <em>{t('unpriced')}</em> : f.usd(cost)}</td>
      <td class="acts">{!fixed && k.state !== 'revoked' && <>{act('edit', 'edit', t('key_edit'))}{k.state === 'active' && act('rotate', 'rotate', t('key_rotate'))}{act('revoke', 'bin', t('key_revoke'))}</>}</td>
    </tr>
  )
}

function limitsOf(k: Pick<Key, 'limits'>, t: T, write: (n: number) => string): string[] {
  return limitNames.filter(n => k.limits[n] !== null).map(n => write(k.limits[n]!) + ' ' + t(('limit_' + n) as 'limit_rpm'))
}

// usedThisMonth sums the Calls of keys since the month began, where the server
// is: requests, cost, and how many have no price.
async function usedThisMonth(names: string[], signal: AbortSignal): Promise<Map<string, Values>> {
  const now = Date.now() / 1000, zone = days()
  const from = iso(unwall(wall(now, zone).slice(0, 8) + '01T00:00', zone)), to = iso(now + 1)
  const used = new Map<string, Values>()
  for (let i = 0; i < names.length; i += 100) { // groups of one answer
    const res = await query({ from, to, group_by: ['key'], filter: { key: names.slice(i, i + 100) }, measures: ['requests', 'cost_nano_usd', 'unpriced'] }, signal)
    for (const s of res.series) used.set(s.group.key, s.total)
  }
  return used
}

// None is what the page shows before there are keys: how to make one.
function None({ onNew }: { onNew: () => void }) {
  const { t } = useLocal()
  const text = "sheepgate key create team-a --rpm 60 --budget '$200/month'"
  return (
    <section class="card empty">
      <h2>{t('key_none')}</h2>
      <p>{t('key_none_text')}</p>
      <p class="act"><button class="button primary" onClick={onNew}><Icon name="plus" /><span>{t('key_new')}</span></button></p>
      <p>{t('key_none_cli')}</p>
      <div class="code"><pre tabIndex={0} aria-label={t('example')}>{text}</pre><Copy text={text} label={t('copy')} /></div>
    </section>
  )
}

// Mine is what the holder of a data key may know of it.
function Mine() {
  const { t, f } = useLocal()
  const { value: u, error, loading, reload } = useLoad<KeyUsage>('mine', signal => get<KeyUsage>('/api/v1/usage', signal), true)
  return (
    <main class="page keys" id="main" tabIndex={-1}>
      <h1 class="unseen">{t('key_mine')}</h1>
      {error && <Problem error={error} retry={reload} stale={!!u} />}
      {u && (
        <section class="card mine" id="keys" aria-busy={loading} aria-label={t('key_mine')}>
          <h2>{u.key}</h2>
          <dl class="pairs">
            <div><dt>{t('team')}</dt><dd>{u.team || '–'}</dd></div>
            <div><dt>{t('models')}</dt><dd>{u.models.join(', ') || t('key_all_models')}</dd></div>
            <div><dt>{t('key_expires')}</dt><dd>{u.expires_at ? f.full(Date.parse(u.expires_at) / 1000) : t('key_never')}</dd></div>
            <div><dt>{t('key_limits')}</dt><dd>{limitsOf(u, t, n => f.int(n)).join(', ') || '–'}</dd></div>
            <div><dt>{t('key_budget')}</dt><dd>{u.budget.join(', ') || '–'}</dd></div>
          </dl>
          <table>
            <thead><tr><th scope="col">{u.timezone}</th><th scope="col" class="n">{t('requests')}</th><th scope="col" class="n">{t('tokens_in')}</th><th scope="col" class="n">{t('tokens_out')}</th><th scope="col" class="n">{t('cost')}</th></tr></thead>
            <tbody>
              {([[t('key_today'), u.today], [t('key_month'), u.month]] as const).map(([name, v]) => (
                <tr key={name}><th scope="row">{name}</th><td class="n" data-number="requests">{f.int(v.requests)}</td><td class="n">{f.int(v.input_tokens)}</td><td class="n">{f.int(v.output_tokens)}</td><td class="n" title={f.exact(v.cost_nano_usd)}>{f.usd(v.cost_nano_usd)}</td></tr>
              ))}
            </tbody>
          </table>
        </section>
      )}
    </main>
  )
}
