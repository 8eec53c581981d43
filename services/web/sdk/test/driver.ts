// A client that a test in another language drives: it reads commands from standard input, one JSON object a line, and writes
// what it is shown to standard output. Its outbox is a folder, so that it survives the end of the process.
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { Client, type Message, type OutboxStore, type Push, type SocketClass } from '../src/index.js'

type Command =
  | { send: { conversation: string; content: string; client_msg_id: string; extra?: Record<string, unknown> } }
  | { edit: { n: number; conversation: string; message_id: string; content: string; extra?: Record<string, unknown> } }
  | { recall: { n: number; conversation: string; message_id: string } }
  | { offline: boolean }
  | { snapshot: string }

const [url, user, token, folder, ...names] = process.argv.slice(2) as [string, string, string, string, ...string[]]

function say(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

function folderStore(): OutboxStore {
  mkdirSync(folder, { recursive: true })
  const file = (id: string) => join(folder, `${id}.json`)
  return {
    all: async () => readdirSync(folder).filter((f) => f.endsWith('.json')).map((f) => JSON.parse(readFileSync(join(folder, f), 'utf8'))),
    put: async (send) => {
      writeFileSync(join(folder, 'new'), JSON.stringify(send))
      renameSync(join(folder, 'new'), file(send.client_msg_id))
      say({ kept: send.client_msg_id })
    },
    remove: async (send) => {
      if (existsSync(file(send.client_msg_id))) rmSync(file(send.client_msg_id))
    },
  }
}

const client = new Client({
  url,
  user: Number(user),
  token: () => token,
  device: 'driver',
  store: folderStore(),
  environment: {
    WebSocket: (globalThis as { WebSocket?: SocketClass }).WebSocket ?? createRequire(import.meta.url)('ws'),
    random: () => Math.random() * 0.05, // nobody waits long
  },
})

client.connection.subscribe(() => {
  const { state, reason, detail, complete } = client.connection.getSnapshot()
  say({ state: [state, reason, detail, complete ? '' : 'incomplete'].filter(Boolean).join(' ') })
})

/** What comes while a conversation is being loaded is told after the load. */
const loading = new Map<string, Push[]>()

function shown(messages: readonly Message[]): Message[] {
  return messages.filter(({ seq }) => seq !== undefined)
}

/** The messages that were told as part of a load. They may still come as pushes. */
const told = new Set<string | undefined>()

/** How often pushes were missed for good. */
let missed = 0

/** Loads the whole conversation and tells all of it. */
async function load(name: string): Promise<void> {
  if (loading.has(name)) return
  const chat = client.conversation(name)
  loading.set(name, [])
  for (let before = -1; before !== missed; ) {
    before = missed
    await chat.load()
    while (chat.getSnapshot().more) await chat.loadOlder()
  }
  const messages = shown(chat.getSnapshot().messages)
  say({ reloaded: { conversation: name, messages } })
  for (const { message_id } of messages) told.add(message_id)
  const meanwhile = loading.get(name) ?? []
  loading.delete(name)
  meanwhile.forEach(tell)
}

function tell(push: Push): void {
  if (!('conversation' in push) || (push.type === 'new_message' && told.has(push.message.message_id))) return
  const waiting = loading.get(push.conversation)
  if (waiting) waiting.push(push)
  else say({ push })
}

for (const type of ['new_message', 'message_edited', 'message_recalled'] as const) client.on(type, tell as never)
for (const name of names) {
  const chat = client.conversation(name)
  chat.subscribe(() => chat.read()) // marks do no harm
  void load(name)
}
// The views load themselves again. What they have then is told as a whole.
client.on('missed', () => {
  say({ missed: ++missed })
  for (const name of names) void load(name)
})

function answered(n: number, done: Promise<void>): void {
  done.then(
    () => say({ agreed: n }),
    (error) => say({ refused: String(error) }),
  )
}

function obey(command: Command): void {
  if ('send' in command) {
    const { conversation, ...message } = command.send
    client.conversation(conversation).send(message).then(
      ({ message_id }) => say({ acked: { conversation, client_msg_id: message.client_msg_id, message_id } }),
      (error) => say({ refused: String(error) }),
    )
  } else if ('edit' in command) {
    const { n, conversation, message_id, content, extra } = command.edit
    answered(n, client.conversation(conversation).edit(message_id, content, extra))
  } else if ('recall' in command) {
    const { n, conversation, message_id } = command.recall
    answered(n, client.conversation(conversation).recall(message_id))
  } else if ('offline' in command) {
    if (command.offline) client.disconnect()
    else client.connect()
  } else {
    const { messages } = client.conversation(command.snapshot).getSnapshot()
    const placed = shown(messages)
    say({ snapshot: { conversation: command.snapshot, messages: placed, unplaced: messages.length - placed.length } })
  }
}

createInterface({ input: process.stdin })
  .on('line', (line) => obey(JSON.parse(line)))
  .on('close', () => client.close())
