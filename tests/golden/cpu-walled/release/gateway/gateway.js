// Who a sandbox's token belongs to, how much an answer of it may be, and what it used: njs 0.7.9 and newer.
// A client is a file of root's, named by the sha256 of its token: one that is written comes in at once, one that is
// taken away is out at once. Nothing of a body is written anywhere.
import fs from 'fs';
import crypto from 'crypto';

const CLIENTS = '/var/lib/agentrig/gateway/clients';
const NO_TOKEN = /[^A-Za-z0-9_-]/;
const NO_NAME = /[^a-z0-9-]/;
// Characters of an answer that are looked at for what it used: both wire forms tell it in their last event or at the
// end of the document; the Anthropic form tells the prompt's tokens in its first event.
const LOOKED_AT = 4096;
let found = null;
let head = '';
let tail = '';
let events = 0;

function client_of(r) {
    if (found === null) {
        found = read(token_of(r), r.remoteAddress);
    }
    return found;
}

function token_of(r) {
    const bearer = /^bearer ([^\s]+)$/i.exec(r.headersIn['Authorization'] || '');
    return bearer ? bearer[1] : r.headersIn['X-Api-Key'] || '';
}

// A file may name the one address that its token is good from.
function read(token, address) {
    if (token.length < 20 || token.length > 200 || NO_TOKEN.test(token)) {
        return {};
    }
    const name = crypto.createHash('sha256').update(token).digest('hex');
    let known;
    try {
        known = JSON.parse(fs.readFileSync(CLIENTS + '/' + name + '.json', 'utf8'));
    } catch (e) {
        return {};
    }
    const ends = known.expires;
    const cap = known.output_tokens;
    const timely = ends === null || (Number.isInteger(ends) && ends > Date.now() / 1000);
    const name_of_it = known.name;
    const named = typeof name_of_it === 'string' && name_of_it.length > 0 && !NO_NAME.test(name_of_it);
    const whole = named && (cap === null || (Number.isInteger(cap) && cap > 0));
    const at_home = known.address === undefined || known.address === null || known.address === address;
    return timely && whole && at_home ? known : {};
}

// The client's name; empty for a token that nobody has, that has ended, or whose file cannot be read as one.
function client(r) {
    return client_of(r).name || '';
}

// The most tokens of one answer, as the client's file has it; empty for none.
function cap(r) {
    const most = client_of(r).output_tokens;
    return most ? String(most) : '';
}

// A request of a capped client: what it asks for is lowered to its cap, all else goes on as it came.
function capped(r) {
    const most = client_of(r).output_tokens;
    let body;
    if (Number(r.headersIn['Content-Length'] || 0) > 8 * 1048576) {
        r.return(413);
        return;
    }
    try {
        body = JSON.parse(r.requestText);
    } catch (e) {
        r.return(400);
        return;
    }
    if (typeof body !== 'object' || body === null || Array.isArray(body)) {
        r.return(400);
        return;
    }
    const answers = ['n', 'best_of'].map((key) => (Number.isInteger(body[key]) && body[key] > 1 ? body[key] : 1));
    if (Array.isArray(body.prompt) && body.prompt.some((one) => typeof one !== 'number')) {
        answers.push(body.prompt.length);
    }
    const each = Math.max(1, Math.floor(most / Math.max.apply(null, answers)));
    ['max_tokens', 'max_completion_tokens', 'max_output_tokens', 'n_predict', 'max_tokens_to_sample'].forEach((key) => {
        if (key in body) {
            const asked = body[key];
            body[key] = Number.isInteger(asked) && asked > 0 ? Math.min(asked, each) : each;
        }
    });
    if (!('max_tokens' in body) && !('max_completion_tokens' in body)) {
        body.max_tokens = each;
    }
    r.variables.capped_body = JSON.stringify(body);
    r.internalRedirect('@runtime_capped');
}

// Looks at what goes back, and changes nothing of it.
function look(r, data, flags) {
    const text = data.toString('utf8');
    if (head.length < LOOKED_AT) {
        head += text.slice(0, LOOKED_AT - head.length);
    }
    events += text.split('\ndata: {').length - 1 + (text.startsWith('data: {') ? 1 : 0);
    tail = (tail + text).slice(-LOOKED_AT);
    r.sendBuffer(data, flags);
}

function last(text, keys) {
    const wanted = new RegExp('"(?:' + keys + ')"[ ]*:[ ]*([0-9]+)', 'g');
    let told = null;
    let one = wanted.exec(text);
    while (one !== null) {
        told = Number(one[1]);
        one = wanted.exec(text);
    }
    return told;
}

function number(value) {
    return value === null ? '-' : String(value);
}

// Tokens of the prompt, as the runtime told them; a hyphen where it did not.
function prompt_tokens(r) {
    const told = last(tail, 'prompt_tokens|prompt_n');
    return number(told === null ? last(head, 'input_tokens') : told);
}

// Tokens of the answer, as the runtime told them; of a stream that tells none the number of its events.
function output_tokens(r) {
    const told = last(tail, 'completion_tokens|output_tokens|predicted_n');
    return number(told === null && events > 0 ? events : told);
}

export default { client, cap, capped, look, prompt_tokens, output_tokens };
