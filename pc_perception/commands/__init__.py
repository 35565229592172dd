# SPDX-License-Identifier: Apache-2.0
"""What the subcommands of ``pc-perception`` do, one file each."""
