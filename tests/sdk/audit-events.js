// Lists audit events with Segment's own SDK, of which nothing is changed but the base URL: to the last page, and back to the
// first. Argument: JSON {url, token, count, startTime?, endTime?, resourceId?, resourceType?, cursor?}. Prints JSON
// {pages, back, limits, error?}: what a user of the SDK gets.
'use strict'
const { configureApis, unwrap } = require('@segment/public-api-sdk-typescript')

const { url, token, count, startTime, endTime, resourceId, resourceType, cursor } = JSON.parse(process.argv[2])
const { auditTrail } = configureApis(token)
auditTrail.basePath = url

const list = (cursor) => auditTrail.listAuditEvents({ count, cursor }, startTime, endTime, resourceId, resourceType)

async function main() {
  const seen = { pages: [], back: [] }
  try {
    let at = cursor
    do {
      const { response, body } = await list(at)
      seen.pages.push(body.data)
      seen.limits = ['consumed', 'remaining', 'reset'].map((name) => response.headers[`x-ratelimit-${name}`])
      at = body.data.pagination.next
    } while (at)
    at = seen.pages.at(-1).pagination.previous
    while (at) {
      const data = await unwrap(list(at))
      seen.back.push(data.events)
      at = data.pagination.previous
    }
  } catch (error) {
    // What `unwrap` throws is the first error of the envelope.
    const unwrapped = await unwrap(list(cursor)).catch((inner) => inner)
    const { name, statusCode, body } = error
    seen.error = { name, statusCode, body, unwrapped }
  }
  return seen
}

main().then((seen) => console.log(JSON.stringify(seen)))
