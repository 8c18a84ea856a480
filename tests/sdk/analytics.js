// Makes calls with Segment's own analytics-node, of which only host and write key are set. Argument: JSON
// {host, writeKey, calls: [[method, parameters], …]}. Prints JSON {sent: [{items, headers}], answered: [{status, items}], errors}:
// the requests, the answers they got, and what the SDK told its user. After the calls, one more is made: `Closed`.
'use strict'
const { Analytics } = require('@segment/analytics-node')

const { host, writeKey, calls } = JSON.parse(process.argv[2])
const analytics = new Analytics({ host, writeKey })

const [sent, answered, errors] = [[], [], []]
analytics.on('http_request', ({ body, headers }) => sent.push({ items: JSON.parse(body).batch, headers }))
analytics.on('http_response', ({ status, body }) => answered.push({ status, items: JSON.parse(body).batch.length }))
analytics.on('error', ({ code, reason }) => errors.push(`${code}: ${reason}`))

async function main() {
  for (const [method, { timestamp, ...parameters }] of calls) {
    analytics[method]({ ...parameters, timestamp: timestamp && new Date(timestamp) })
  }
  await analytics.flush()
  analytics.track({ event: 'Closed', userId: 'usr_1' })
  await analytics.closeAndFlush()
  return { sent, answered, errors }
}

main().then((seen) => console.log(JSON.stringify(seen)))
