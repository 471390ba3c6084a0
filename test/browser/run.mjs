// node run.mjs NAME runs the check of that name in checks/.

import { closeBrowser } from './lib.mjs'

const name = process.argv[2]
try {
  const { default: check } = await import(`./checks/${name}.mjs`)
  await check()
} catch (e) {
  console.error(e.stack ?? e)
  process.exitCode = 1
} finally {
  await closeBrowser()
}
process.exit()
