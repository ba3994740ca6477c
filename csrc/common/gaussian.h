// The tensors of diagonal Gaussians, of one row of elements each, on any device.
#pragma once

#include "common/view.h"

namespace lapcore {

struct Moments {
    Rows mean, logvar, prior_mean, prior_logvar;
};

}  // namespace lapcore
