// Recommendations from Node, by a call of their own and over a stream.
//
//     npm ci && node recommend.js localhost:8001 42 7
//
// PROTO names the folder with the server's .proto files; by default that of this checkout.

'use strict';

const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

const protos = process.env.PROTO || path.join(__dirname, '..', '..', 'proto');
const definition = protoLoader.loadSync('fuserank/v1/recommender.proto', {
  includeDirs: [protos],
  longs: Number,
  enums: String,
  defaults: true,
});
const { RecommenderService } = grpc.loadPackageDefinition(definition).fuserank.v1;

const [address = 'localhost:8001', ...users] = process.argv.slice(2);
const client = new RecommenderService(address, grpc.credentials.createInsecure());

function request(userId) {
  return { user: { fields: { user_id: { stringValue: userId } } }, k: 5 };
}

function show(userId, { itemIds, scores, servedAs }) {
  const items = itemIds.map((id, index) => `${id} ${scores[index].toFixed(3)}`);
  console.log(`${userId} (${servedAs}): ${items.join(', ')}`);
}

// One call a user. A deadline is on every call: without it a client waits for as long as it takes.
function recommend(userId) {
  return new Promise((resolve, reject) => {
    const deadline = new Date(Date.now() + 5000);
    client.recommend(request(userId), { deadline }, (error, reply) =>
      error ? reject(error) : resolve(reply.recommendation),
    );
  });
}

// All users over one stream, which costs half as much. Replies come as they are ready: the id says
// which request they belong to, and one that failed does not end the stream.
function recommendOverStream(userIds) {
  return new Promise((resolve, reject) => {
    const stream = client.recommendStream({ deadline: new Date(Date.now() + 30000) });
    const found = new Map();
    stream.on('data', ({ id, response, error }) => {
      found.set(userIds[id], error ? new Error(error.message) : response.recommendation);
    });
    stream.on('error', reject);
    stream.on('end', () => resolve(found));
    userIds.forEach((userId, id) => stream.write({ id, request: request(userId) }));
    stream.end();
  });
}

async function main() {
  for (const userId of users) {
    show(userId, await recommend(userId));
  }
  const found = await recommendOverStream(users);
  for (const userId of users) {
    const one = found.get(userId);
    if (one instanceof Error) {
      throw one;
    }
    show(userId, one);
  }
}

main()
  .catch((error) => {
    console.error(error.message); // such as "5 NOT_FOUND: history: …"
    process.exitCode = 1;
  })
  .finally(() => client.close());
