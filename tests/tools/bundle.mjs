// Bundles a script with the packages it uses. Arguments: the folder of packages, the script, the file to write.

import { createRequire } from "node:module";
import { join } from "node:path";

const [modules, script, outfile] = process.argv.slice(2);
const esbuild = createRequire(join(modules, "_"))("esbuild");
const loader = { ".binpb": "binary" };
esbuild.buildSync({ entryPoints: [script], outfile, bundle: true, format: "esm", loader, nodePaths: [modules] });
