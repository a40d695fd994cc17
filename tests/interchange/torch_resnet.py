"""A ResNet18 as users of PyTorch write and train it, by torchvision's names."""

import torch
from torch import nn
import torch.nn.functional as F


class Block(nn.Module):
  """Two convolutions 3x3, and a projection where the shape changes."""

  def __init__(self, before, width, stride):
    super().__init__()
    self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
    self.bn1 = nn.BatchNorm2d(width)
    self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
    self.bn2 = nn.BatchNorm2d(width)
    self.downsample = None
    if (before, 1) != (width, stride):
      self.downsample = nn.Sequential(
          nn.Conv2d(before, width, 1, stride, bias=False),
          nn.BatchNorm2d(width))

  def forward(self, x):
    y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
    return F.relu(y + (self.downsample(x) if self.downsample else x))


class ResNet18(nn.Module):
  """For small images: [B, 3, S, S] -> logits [B, classes]."""

  def __init__(self, width, classes=10):
    super().__init__()
    self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
    self.bn1 = nn.BatchNorm2d(width)
    before = width
    for stage in range(4):
      after = width * 2**stage
      setattr(self, f"layer{stage + 1}", nn.Sequential(
          Block(before, after, 2 if stage else 1), Block(after, after, 1)))
      before = after
    self.fc = nn.Linear(before, classes)

  def forward(self, x):
    x = F.relu(self.bn1(self.conv1(x)))
    for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
      x = stage(x)
    return self.fc(x.mean((2, 3)))


def _given(images, data):
  """Images u8[N, S, S, 3], normalised by what a data set's training has."""
  x = (torch.from_numpy(images) / 255 - torch.tensor(data.mean)) / (
      torch.tensor(data.std))
  return x.permute(0, 3, 1, 2).float().contiguous()


def trained(data, width, epochs, batch_size=64):
  """Trains shortly by Adam; returns the model and its test accuracy."""
  torch.set_num_threads(1)  # Several would wait for each other by spinning.
  torch.manual_seed(0)
  model = ResNet18(width)
  optimizer = torch.optim.Adam(model.parameters(), 3e-3)
  images = _given(data.train_images, data)
  labels = torch.from_numpy(data.train_labels).long()
  for _ in range(epochs):
    for part in torch.randperm(len(images)).split(batch_size):
      optimizer.zero_grad()
      F.cross_entropy(model(images[part]), labels[part]).backward()
      optimizer.step()
  model.eval()
  with torch.no_grad():
    found = model(_given(data.test_images, data)).argmax(-1).numpy()
  return model, float((found == data.test_labels).mean())
