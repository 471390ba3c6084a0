import { useLayoutEffect, useRef } from 'preact/hooks'
import { useLocal, type Word } from './i18n'
import { Icon } from './icons'

const keys: [string[], Word][] = [
  [['/'], 'k_filter'], [['g', 'o'], 'k_overview'], [['g', 'r'], 'k_requests'], [['g', 'k'], 'k_keys'], [['g', 'l'], 'k_limits'], [['j', 'k'], 'k_move'], [['Enter'], 'k_open'], [['Esc'], 'k_close'], [['p'], 'k_pause'], [['?'], 'k_help'],
]

export function Help({ onClose }: { onClose: () => void }) {
  const { t } = useLocal()
  const box = useRef<HTMLDialogElement>(null)
  useLayoutEffect(() => box.current?.showModal(), []) // before the next key is pressed
  return (
    <dialog ref={box} class="card help" aria-label={t('help')} onClose={onClose} onClick={e => { if (e.target === box.current) onClose() }}>
      <header><h2>{t('help')}</h2><button class="icon" aria-label={t('close')} onClick={onClose}><Icon name="close" /></button></header>
      <dl>{keys.map(([k, w]) => <div key={w}><dt>{k.map(x => <kbd key={x}>{x}</kbd>)}</dt><dd>{t(w)}</dd></div>)}</dl>
      <p class="note">{t('help_drag')}</p>
      <p class="note"><a href="/openapi.json">openapi.json</a></p>
    </dialog>
  )
}
