// expect: this model's forward does not take the data's condition
#include "flowmatch/flowmatch.hpp"
#include "tests/support/networks.hpp"

void wrong(const at::Tensor& x, const at::Tensor& labels) {
  networks::Mlp net;
  fm::Trainer trainer(net, fm::VelocityNoisifier(fm::LinearPath{}));
  trainer.fit(fm::TensorBatches(x, labels, 8));
}
