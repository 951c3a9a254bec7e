// Runs before every test file: makes the device under test the default one.

import { context } from "../../lib/core/context.js";
import { TEST_DEVICE } from "./devices.js";

context.defaultDevice = TEST_DEVICE;
