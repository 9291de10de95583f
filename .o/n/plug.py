import common

B = common.A
