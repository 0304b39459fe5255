// node main.mjs CLIENT SCENARIO: prints what a client found, as one line of JSON. test_npm_clients.py says what must hold.
const [name, scenario] = process.argv.slice(2);
const [file, ...options] = name.split(":");
const { scenarios } = await import(`./${file}.mjs`);
console.log(JSON.stringify(await scenarios(...options)[scenario]()));
