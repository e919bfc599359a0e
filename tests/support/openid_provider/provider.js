// An OpenID provider with one client and anybody as a user: node provider.js REDIRECT_URI. Prints its port.
import { createServer } from 'node:http';

import Provider from 'oidc-provider';

const server = createServer();
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const { port } = server.address();

const provider = new Provider(`http://localhost:${port}`, {
  clients: [{ client_id: 'artseek', client_secret: 'secret-of-artseek', redirect_uris: [process.argv[2]] }],
  claims: { openid: ['sub'], profile: ['preferred_username', 'groups'], email: ['email'] },
  // The claims come by the user info alone, as the standard has it where a code is asked for.
  conformIdTokenClaims: true,
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, preferred_username: `${id} of the museum`, groups: ['staff'], email: `${id}@museum.example` }),
  }),
  features: { devInteractions: { enabled: true }, rpInitiatedLogout: { enabled: true } },
  pkce: { required: () => true },
});
server.on('request', provider.callback());
console.log(port);
